/**
 * Learn: the model takes on a way of writing.
 *
 * `text.ts` is what it learns from, `options.ts` how; `lesson.ts` follows a learning with `plot.ts` and `samples.ts`;
 * `shelf.ts` has what came of it, and of others.
 */

import type { Device, DType, Generator } from "../../api/index.js";
import { isDeviceLost } from "../../elements/explain.js";
import { countText } from "../../elements/figures.js";
import {
  deleteFinetune,
  type FinetuneRun,
  finetune,
  type LearnedModel,
  listFinetunes,
  resumeFinetune,
  type SavedFinetune,
} from "../../learn/index.js";
import { adapterOn } from "../adapters.js";
import { hideAlert, retry, showError } from "../alert.js";
import { announce, byId, swapFocus } from "../dom.js";
import { load, loadAgain, markLost, useEngine } from "../engine.js";
import { saveFile } from "../save-file.js";
import { archiveOf } from "./archive.js";
import { Lesson } from "./lesson.js";
import { readOptions, startOptions } from "./options.js";
import { clearSamples, proposeBeginning, showSample, startSamples, untaught } from "./samples.js";
import { bringIn, startShelf } from "./shelf.js";
import { addFiles, measure, setText, startText, text } from "./text.js";

const form = byId("learn-form", HTMLFormElement);
const startButton = byId("learn-start", HTMLButtonElement);
const stopButton = byId("learn-stop", HTMLButtonElement);
const cancelButton = byId("learn-cancel", HTMLButtonElement);
const progress = byId("learn-run", HTMLElement);
const ended = byId("learn-ended", HTMLDivElement);
const outcome = byId("learn-outcome", HTMLParagraphElement);
const again = byId("learn-again", HTMLElement);
const againTold = byId("learn-again-told", HTMLParagraphElement);

let generator: Generator | null = null;
let lesson: Lesson | null = null;
let controller = new AbortController();
/** Settles, never rejects, when nothing is learnt or written any more. */
let running: Promise<void> = Promise.resolve();
let model: LearnedModel | null = null;
let cutOff: SavedFinetune | null = null;

function showButtons(): void {
  const isLearning = lesson !== null;
  startButton.disabled = generator === null || isLearning;
  for (const button of [stopButton, cancelButton]) button.hidden = !isLearning;
  if (!isLearning) swapFocus(stopButton, startButton);
  byId("learn-resume", HTMLButtonElement).disabled = startButton.disabled;
  byId("learn-use", HTMLAnchorElement).textContent = model ? "Use this model" : "Write with it";
  byId("learn-save", HTMLButtonElement).hidden = model === null;
}

/** Follows a learning from its beginning to its end. */
async function teach(begin: (of: Generator, signal: AbortSignal) => Promise<FinetuneRun>, method: "lora" | "full") {
  const of = generator;
  if (!of) return;
  hideAlert();
  clearSamples();
  ended.hidden = true;
  progress.hidden = false;
  outcome.textContent = "";
  model = null;
  const mine = new AbortController();
  controller = mine;
  try {
    const run = await begin(of, mine.signal);
    lesson = new Lesson(run, () => mine.signal.aborted);
    showButtons();
    stopButton.focus({ preventScroll: true });
    await showSample("before", untaught(of));
    model = await lesson.follow(of, method);
    if (!mine.signal.aborted) ended.hidden = false;
  } catch (error) {
    progress.hidden = true;
    if (mine.signal.aborted) outcome.textContent = "Cancelled: nothing was kept.";
    else failed(error);
  } finally {
    lesson = null;
    showButtons();
    await showCutOff();
  }
}

function failed(error: unknown): void {
  const isLost = isDeviceLost(error);
  if (isLost) markLost();
  outcome.textContent = "Broken off: see the message above.";
  showError(error, isLost ? retry(loadAgain) : undefined);
}

function begin(): void {
  const options = readOptions();
  if (!options) {
    byId("learn-options", HTMLDetailsElement).open = true;
    form.reportValidity();
    return;
  }
  if (text().trim() === "") {
    outcome.textContent = "It needs a text to learn from: paste some pages, or take the ship’s log.";
    announce(outcome.textContent);
    byId("learn-text", HTMLTextAreaElement).focus();
    return;
  }
  proposeBeginning(text());
  const taught = text();
  running = teach(async (of, signal) => finetune(of, taught, { ...options, signal }), options.method ?? "lora");
}

function writeBoth(): void {
  const of = generator;
  if (!of || lesson) return;
  running = (async () => {
    try {
      await showSample("before", untaught(of));
      if (!model)
        await showSample("after", (prompt, options) => of.complete(prompt, { ...options, adapter: adapterOn() }));
    } catch (error) {
      failed(error);
    }
  })();
}

async function showCutOff(): Promise<void> {
  try {
    const saved = await listFinetunes();
    cutOff = saved.find(({ model }) => model === generator?.info.model) ?? null;
  } catch {
    cutOff = null; // Where storage is forbidden, nothing was kept that could go on.
  }
  again.hidden = cutOff === null || lesson !== null;
  if (cutOff)
    againTold.textContent =
      `A learning was cut off after ${countText(cutOff.step, "step")} of ${cutOff.steps}` +
      `, on ${new Date(cutOff.saved_at).toLocaleString()}.`;
}

function goOn(): void {
  const saved = cutOff;
  if (!saved) return;
  again.hidden = true;
  proposeBeginning(text());
  running = teach((of, signal) => resumeFinetune(of, saved.id, { signal }), saved.method);
}

async function forgetCutOff(): Promise<void> {
  if (cutOff) await deleteFinetune(cutOff.id);
  await showCutOff();
  startButton.focus();
}

/** A model that was learnt takes the place of the one that it learnt from. */
async function useModel(): Promise<void> {
  if (!model) return; // an adapter is on already
  const { dtype, device } = generator?.info ?? { dtype: "auto", device: "auto" };
  load({ source: { files: await model.merge() }, device: device as Device, dtype: dtype as DType });
}

async function saveModel(): Promise<void> {
  if (model) saveFile("learnt-model.zip", await archiveOf(await model.merge()));
}

/** Files that were dropped on this view: an adapter's, or texts. */
export function takeFiles(files: Record<string, File>): void {
  const all = Object.values(files);
  const isText = ({ name, type }: File): boolean => type.startsWith("text/") || /\.(txt|md)$/i.test(name);
  if (all.every(isText)) void addFiles(all);
  else bringIn(all);
}

const tell = (): void => void measure(generator, readOptions());

/** Wires the view. */
export function start(): void {
  startText(() => {
    proposeBeginning(text());
    tell();
  });
  startOptions(tell);
  startSamples(writeBoth);
  startShelf();
  const click = (id: string, act: () => void | Promise<void>): void =>
    byId(id, HTMLButtonElement).addEventListener("click", () => {
      Promise.resolve(act()).catch(failed);
    });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  click("learn-stop", () => lesson?.stop());
  click("learn-cancel", () => controller.abort());
  click("learn-example", async () => setText((await import("./example.js")).shipsLog()));
  click("learn-resume", goOn);
  click("learn-forget", forgetCutOff);
  byId("learn-use", HTMLAnchorElement).addEventListener("click", () => void useModel().catch(failed));
  click("learn-save", saveModel);
  proposeBeginning(text());
  useEngine({
    attach(loaded) {
      generator = loaded;
      showButtons();
      tell();
      void showCutOff();
    },
    async detach() {
      controller.abort();
      await running;
      generator = null;
      showButtons();
    },
  });
  showButtons();
}
