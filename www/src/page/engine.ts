/** The one model that all views use: loading it, cancelling, replacing, and telling the views. */

import { isAbort } from "../api/errors.js";
import type { CreateGeneratorOptions, Device, DType, Generator, ModelSource, ProgressEvent } from "../api/index.js";
import { createGenerator } from "../api/index.js";
import { bytesText, countText, deviceText } from "../elements/figures.js";
import { hideAlert, retry, showError } from "./alert.js";
import { announce, byId, setState } from "./dom.js";

/** A model, and how to load it. */
export interface ModelChoice {
  source: ModelSource;
  device: Device;
  dtype: DType;
}

/** What a view does when a model comes and goes. A view that opens late is told at once what is there. */
export interface EngineUser {
  /** A model is ready. */
  attach?(generator: Generator): void;
  /** The model is about to go; resolves when the view uses it no more. */
  detach?(): Promise<void> | void;
  /** A load begins. */
  began?(name: string): void;
  /** How far the load is. */
  progress?(event: ProgressEvent): void;
  /** A load has ended: with a model, or without one for the reason that `text` tells. */
  ended?(generator: Generator | null, text: string): void;
}

interface Load {
  choice: ModelChoice;
  controller: AbortController;
  /** Settles, never rejects, when the load has ended one way or another. */
  ended: Promise<void>;
}

const users = new Set<EngineUser>();
const chip = byId("engine-text", HTMLSpanElement);
const line = byId("load-line", HTMLProgressElement);

let generator: Generator | null = null;
let current: Load | null = null;
let last: ModelChoice | null = null;

/** What a person calls a source. */
export function nameOf(source: ModelSource): string {
  if (typeof source === "string" || source instanceof URL) return String(source);
  const blobs: Blob[] = Symbol.iterator in source.files ? [...source.files] : Object.values(source.files);
  const size = blobs.reduce((sum, blob) => sum + blob.size, 0);
  return `${countText(blobs.length, "file")} from disk (${bytesText(size)})`;
}

/** Registers a view. */
export function useEngine(user: EngineUser): void {
  users.add(user);
  if (current) user.began?.(nameOf(current.choice.source));
  else if (generator) {
    user.ended?.(generator, nameOf(generator.info.model));
    user.attach?.(generator);
  }
}

/** The model that is loaded, or null. */
export function loadedGenerator(): Generator | null {
  return generator;
}

/** Where the model that is loaded came from, or null. */
export function currentSource(): ModelSource | null {
  return generator && last ? last.source : null;
}

/** Whether a model is loaded or being loaded. */
export function isEngineTaken(): boolean {
  return current !== null || generator !== null;
}

/** The last part of a name, which is enough beside the others: `distilgpt2` of `distilbert/distilgpt2`. */
function shortName(name: string): string {
  return name.replace(/\/+$/, "").split("/").at(-1) || name;
}

function showProgress(event: ProgressEvent, name: string): void {
  for (const user of users) user.progress?.(event);
  // The other events are about single files; this one is about the whole load.
  if (event.status !== "progress_total") return;
  if (event.progress === null) line.removeAttribute("value");
  else line.value = event.progress;
  const percent = event.progress === null ? "" : ` ${Math.floor(event.progress)} %`;
  chip.textContent = `Loading ${shortName(name)}${percent}`;
}

function showEnded(state: "ready" | "failed", text: string, said: string): void {
  line.hidden = true;
  setState(state);
  chip.textContent = generator
    ? [shortName(text), deviceText(generator.info), generator.info.dtype].join(" · ")
    : "No model";
  for (const user of users) user.ended?.(generator, text);
  announce(said);
}

async function letGo(): Promise<void> {
  if (!generator) return;
  const old = generator;
  await Promise.all([...users].map((user) => user.detach?.()));
  generator = null;
  await old.dispose();
}

async function run(choice: ModelChoice, controller: AbortController): Promise<void> {
  const { source, device, dtype } = choice;
  const name = nameOf(source);
  const options: CreateGeneratorOptions = {
    device,
    dtype,
    signal: controller.signal,
    progress_callback: (event) => {
      if (!controller.signal.aborted) showProgress(event, name);
    },
  };
  try {
    // The old model goes before the new one comes, since both may not fit into memory.
    await letGo();
    setState("loading");
    hideAlert();
    line.removeAttribute("value");
    line.hidden = false;
    chip.textContent = `Loading ${shortName(name)}`;
    for (const user of users) user.began?.(name);
    const loaded = await createGenerator(source, options);
    if (controller.signal.aborted) {
      // It was cancelled after its last byte had come.
      await loaded.dispose();
      throw new DOMException("loading was cancelled", "AbortError");
    }
    generator = loaded;
    last = choice;
    showEnded("ready", name, `${name} is ready on the ${loaded.info.device === "webgpu" ? "GPU" : "CPU"}.`);
    for (const user of users) user.attach?.(loaded);
  } catch (error) {
    if (isAbort(error)) {
      showEnded("failed", `Cancelled: ${name} is not loaded.`, "Loading was cancelled.");
      return;
    }
    showEnded("failed", `No model is loaded: ${name} failed to load.`, "Loading failed.");
    showError(
      error,
      retry(() => load(choice)),
    );
  }
}

/** Loads a model; a load already under way is cancelled first, and the model that is there is disposed of. */
export function load(choice: ModelChoice): void {
  const before = current;
  before?.controller.abort();
  const controller = new AbortController();
  const ended = (async (): Promise<void> => {
    await before?.ended;
    // Another load may have been asked for while the one before was ending.
    if (!controller.signal.aborted) await run(choice, controller);
  })();
  const mine: Load = { choice, controller, ended };
  current = mine;
  ended
    .finally(() => {
      if (current === mine) current = null;
    })
    .catch((error: unknown) =>
      showError(
        error,
        retry(() => load(choice)),
      ),
    );
}

/** Loads the model that was loaded last once more, or the demo. */
export function loadAgain(): void {
  load(last ?? { source: "demo", device: "auto", dtype: "auto" });
}

/** Cancels the load under way. */
export function cancelLoad(): void {
  current?.controller.abort();
}

/** The device was lost: what is loaded cannot be used any more. */
export function markLost(): void {
  void generator?.dispose();
  generator = null;
  showEnded("failed", "The model is no longer loaded.", "The model is no longer loaded.");
}
