/**
 * Look: how surprised the model is by each token of a text.
 *
 * The text itself is a `<gpt2-surprise>`; `sums.ts` adds up what it tells, `attention.ts` draws what a token looked at,
 * `comparison.ts` sets another model beside this one.
 */

import type { Generator, Score } from "../../api/index.js";
import { isDeviceLost } from "../../elements/explain.js";
import { countText } from "../../elements/figures.js";
import { Gpt2SurpriseElement } from "../../elements/index.js";
import { differences, type Piece, sumOf } from "../../elements/pieces.js";
import type { ColourMode } from "../../elements/token-text.js";
import { adapterOn, adaptersBack, followAdapters } from "../adapters.js";
import { retry, showError } from "../alert.js";
import { byId } from "../dom.js";
import { loadAgain, markLost, useEngine } from "../engine.js";
import { AttentionPanel } from "./attention.js";
import { Comparison } from "./comparison.js";
import { examplePieces } from "./example.js";
import { showSums } from "./sums.js";

const area = byId("look-text", HTMLTextAreaElement);
const surprise = byId("surprise", Gpt2SurpriseElement);
const stride = byId("look-stride", HTMLParagraphElement);
const numbers = byId("look-numbers", HTMLInputElement);

/** How long typing pauses before the text is read. */
const DELAY_MS = 250;

let generator: Generator | null = null;
let score: Score | null = null;
let theirs: Piece[] | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

const attention = new AttentionPanel(surprise);
const comparison = new Comparison((pieces) => {
  theirs = pieces;
  showComparison();
});

function chosenPieces(): readonly Piece[] | null {
  const { stretch, pieces } = surprise;
  return stretch && stretch[0] < stretch[1] ? pieces.slice(stretch[0], stretch[1] + 1) : null;
}

function showNumbers(): void {
  const { pieces } = surprise;
  const chosen = chosenPieces();
  const [from, to] = [chosen?.[0]?.start ?? 0, chosen?.at(-1)?.end ?? Infinity];
  showSums({
    whole: sumOf(pieces),
    chosen: chosen && sumOf(chosen),
    // of the same stretch, where one is chosen
    other: theirs && sumOf(theirs.filter(({ start, end }) => start >= from && end <= to)),
  });
}

function showComparison(): void {
  surprise.compare(theirs && differences(surprise.pieces, theirs));
  if (theirs) comparison.tell(surprise.pieces, theirs);
  showNumbers();
}

function showStride(): void {
  const n = score?.tokens.length ?? 0;
  const nCtx = generator?.info.context_window ?? Infinity;
  stride.hidden = n <= nCtx;
  stride.textContent = stride.hidden
    ? ""
    : `Longer than the window of ${countText(nCtx, "token")}: it slides on by ${nCtx >> 1}, so that each token is ` +
      `expected from at least ${nCtx >> 1} before it.`;
}

/** After the text has been read. */
function scored(found: Score): void {
  score = found;
  showStride();
  attention.forget();
  theirs = null;
  showNumbers();
  comparison.read(area.value);
}

function read(): void {
  clearTimeout(timer);
  attention.forget();
  surprise.value = area.value;
  // What was told is of another text.
  if (area.value === "") {
    score = theirs = null;
    showStride();
    showNumbers();
  }
}

function selected(stretch: readonly [number, number] | null): void {
  showNumbers();
  const piece = stretch && stretch[0] === stretch[1] ? surprise.pieces[stretch[0]] : undefined;
  if (piece && generator && score) attention.show(generator, score, piece);
  else attention.forget();
}

/** The field is as high as its text, within reason. */
function fit(): void {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight / 3)}px`;
}

function failed(error: unknown): void {
  const isLost = isDeviceLost(error);
  if (isLost) markLost();
  showError(error, retry(isLost ? loadAgain : () => void surprise.score()));
}

/** Wires the view. */
export function start(): void {
  surprise.value = area.value;
  const stored = examplePieces();
  // at once, before a model is there; whatever else stands in the field is read when it has come
  if (stored.map(({ text }) => text).join("") === area.value) surprise.pieces = stored;
  surprise.addEventListener("gpt2-scored", ({ detail }) => scored(detail.score));
  surprise.addEventListener("gpt2-select", ({ detail }) => selected(detail.stretch));
  surprise.addEventListener("gpt2-error", ({ detail }) => failed(detail.error));
  area.addEventListener("input", () => {
    fit();
    clearTimeout(timer);
    timer = setTimeout(read, DELAY_MS);
  });
  byId("look-take", HTMLButtonElement).addEventListener("click", () => {
    area.value = byId("text", HTMLTextAreaElement).value;
    fit();
    read();
  });
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name="look-mode"]')) {
    radio.addEventListener("change", () => {
      surprise.mode = radio.value as ColourMode;
    });
  }
  numbers.addEventListener("change", () => surprise.toggleAttribute("numbers", numbers.checked));
  fit();
  showNumbers(); // the table has its rows before there is anything to fill in
  let on = adapterOn();
  followAdapters(() => {
    if (on === adapterOn()) return;
    on = adapterOn();
    // what was told is of the model with another adapter
    if (generator && surprise.generator === generator) void surprise.score();
  });
  useEngine({
    attach(loaded) {
      generator = loaded;
      comparison.attach(loaded);
      // the first reading is with the adapter that is on already
      void adaptersBack().then(() => {
        if (generator === loaded) surprise.generator = loaded;
      });
    },
    async detach() {
      generator = score = null;
      surprise.generator = null;
      await attention.forget();
      await comparison.end();
    },
  });
}
