/** What a token looked at, by layer and head: small plots of all of them, and the chosen one in the text. */

import { isAbort } from "../../api/errors.js";
import type { Generator, Score } from "../../api/index.js";
import { shareText } from "../../elements/figures.js";
import type { Gpt2SurpriseElement } from "../../elements/index.js";
import type { Piece } from "../../elements/pieces.js";
import { showError } from "../alert.js";
import { byId } from "../dom.js";

const box = byId("attention", HTMLDivElement);
const hint = byId("attention-hint", HTMLParagraphElement);
const layerSelect = byId("attention-layer", HTMLSelectElement);
const headSelect = byId("attention-head", HTMLSelectElement);
const canvas = byId("attention-plots", HTMLCanvasElement);
const list = byId("attention-list", HTMLOListElement);

const ROW_HEIGHT = 26;
const N_LISTED = 6;
const MEAN = "mean";

/** The attentions of one token. */
interface Seen {
  /** For each layer [n_head, n]: of the token over itself and what stands before it. */
  layers: Float32Array[];
  nHead: number;
  /** The tokens that it saw: from this one on, so many. */
  from: number;
  n: number;
  piece: Piece;
}

/** Asks for the attentions of the last of some tokens. */
async function attentionsOf(generator: Generator, ids: number[], signal: AbortSignal): Promise<Float32Array[]> {
  const options = { max_new_tokens: 1, do_sample: false, eos_token_id: null, output_attentions: true, signal };
  for await (const { attentions } of generator.generate(ids, options)) if (attentions) return attentions;
  throw new Error("the model gave no attentions");
}

/** The panel. */
export class AttentionPanel {
  readonly #surprise: Gpt2SurpriseElement;
  #asking = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #seen: Seen | null = null;

  constructor(surprise: Gpt2SurpriseElement) {
    this.#surprise = surprise;
    for (const select of [layerSelect, headSelect]) select.addEventListener("change", () => this.#draw());
    canvas.addEventListener("click", (event) => this.#onClick(event));
    new ResizeObserver(() => this.#plot()).observe(canvas);
  }

  /** Shows what a piece looked at. */
  show(generator: Generator, score: Score, piece: Piece): void {
    this.#asking.abort();
    const asking = new AbortController();
    this.#asking = asking;
    const end = piece.firstToken + piece.nTokens; // the piece's last token looks
    const from = Math.max(0, end - generator.info.context_window + 1); // one place is for the token to come
    const ids = score.tokens.slice(from, end).map(({ id }) => id);
    const before = this.#running;
    this.#running = before.then(async () => {
      try {
        const layers = await attentionsOf(generator, ids, asking.signal);
        if (asking.signal.aborted) return;
        const nHead = (layers[0]?.length ?? 0) / ids.length;
        this.#seen = { layers, nHead, from, n: ids.length, piece };
        this.#offer(layers.length, nHead);
        this.#draw();
      } catch (error) {
        if (!isAbort(error)) showError(error);
      }
    });
  }

  /** Shows nothing; resolves when the model is not used any more. */
  forget(): Promise<void> {
    this.#asking.abort();
    this.#seen = null;
    box.hidden = true;
    hint.textContent = "Press a token to see what it looked at.";
    this.#surprise.weigh(null);
    return this.#running;
  }

  #offer(nLayer: number, nHead: number): void {
    for (const [select, n] of [
      [layerSelect, nLayer],
      [headSelect, nHead],
    ] as const) {
      if (select.options.length === n + 1) continue;
      const numbers = Array.from({ length: n }, (_, i) => new Option(String(i + 1), String(i)));
      select.replaceChildren(new Option("Mean of all", MEAN), ...numbers);
    }
  }

  /** The weights of what is chosen: the mean over its layers and heads, for each token that was seen. */
  #weights({ layers, nHead, n }: Seen): number[] {
    const some = (select: HTMLSelectElement, all: number) =>
      select.value === MEAN ? Array.from({ length: all }, (_, i) => i) : [Number(select.value)];
    const weights = Array<number>(n).fill(0);
    const [ofLayers, ofHeads] = [some(layerSelect, layers.length), some(headSelect, nHead)];
    for (const layer of ofLayers) {
      for (const head of ofHeads) {
        for (let i = 0; i < n; i++)
          weights[i] = (weights[i] ?? 0) + (layers[layer]?.[head * n + i] ?? 0) / ofLayers.length / ofHeads.length;
      }
    }
    return weights;
  }

  #draw(): void {
    const seen = this.#seen;
    if (!seen) return;
    const { from, n, piece } = seen;
    const weights = this.#weights(seen);
    const ofPieces = this.#surprise.pieces.map(({ firstToken, nTokens }) => {
      let sum = 0;
      for (let i = Math.max(firstToken, from); i < Math.min(firstToken + nTokens, from + n); i++)
        sum += weights[i - from] ?? 0;
      return sum;
    });
    const most = Math.max(...ofPieces, 1e-9);
    this.#surprise.weigh(ofPieces.map((weight) => weight / most));
    hint.textContent = `What “${piece.text.trim()}” looked at, to say what comes next.`;
    const order = ofPieces.map((weight, index) => ({ weight, index })).sort((a, b) => b.weight - a.weight);
    list.replaceChildren(
      ...order.slice(0, N_LISTED).map(({ weight, index }) => {
        const item = document.createElement("li");
        const share = document.createElement("span");
        share.className = "figures hint";
        share.textContent = shareText(weight);
        item.style.setProperty("--share", String(weight / most));
        item.append((this.#surprise.pieces[index]?.text ?? "").trim() || "␣", share);
        return item;
      }),
    );
    box.hidden = false;
    this.#plot();
  }

  /** One plot for each layer (rows) and head (columns): a bar for each token that was seen. */
  #plot(): void {
    const seen = this.#seen;
    const context = canvas.getContext("2d");
    if (!seen || !context || canvas.clientWidth === 0) return;
    const { layers, nHead, n } = seen;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, layers.length * ROW_HEIGHT];
    canvas.style.height = `${height}px`;
    [canvas.width, canvas.height] = [width * scale, height * scale];
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const cellWidth = width / nHead;
    for (const [layer, weights] of layers.entries()) {
      for (let head = 0; head < nHead; head++) {
        const isChosen =
          (layerSelect.value === MEAN || Number(layerSelect.value) === layer) &&
          (headSelect.value === MEAN || Number(headSelect.value) === head);
        const [left, top] = [head * cellWidth + 1, layer * ROW_HEIGHT + 1];
        const [inner, high] = [cellWidth - 2, ROW_HEIGHT - 2];
        context.fillStyle = style.getPropertyValue("--wash");
        context.fillRect(left, top, inner, high);
        context.fillStyle = style.getPropertyValue(isChosen ? "--accent" : "--control");
        const step = inner / n;
        for (let i = 0; i < n; i++) {
          const bar = high * (weights[head * n + i] ?? 0);
          context.fillRect(left + i * step, top + high - bar, Math.max(step - 0.25, 0.75), bar);
        }
      }
    }
  }

  #onClick(event: MouseEvent): void {
    const seen = this.#seen;
    if (!seen) return;
    const layer = Math.min(seen.layers.length - 1, Math.floor(event.offsetY / ROW_HEIGHT));
    const head = Math.min(seen.nHead - 1, Math.floor((event.offsetX / canvas.clientWidth) * seen.nHead));
    const isAgain = layerSelect.value === String(layer) && headSelect.value === String(head);
    layerSelect.value = isAgain ? MEAN : String(layer);
    headSelect.value = isAgain ? MEAN : String(head);
    this.#draw();
  }
}
