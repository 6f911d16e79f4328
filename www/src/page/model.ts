/** Choosing, loading and replacing the model. */

import { isAbort, messageOf } from "../api/errors.js";
import type {
  CreateGeneratorOptions,
  Device,
  DType,
  Generator,
  GeneratorInfo,
  ModelSource,
  ProgressEvent,
} from "../api/index.js";
import { createGenerator, isCached } from "../api/index.js";
import { bytesText, countText, parametersText, progressText } from "../elements/figures.js";
import { hideAlert, retry, showError } from "./alert.js";
import { announce, byId, note, setState, swapFocus } from "./dom.js";
import { startFiles } from "./files.js";
import { keep } from "./settings.js";

const field = byId("model", HTMLInputElement);
const device = byId("device", HTMLSelectElement);
const dtype = byId("dtype", HTMLSelectElement);
const loadButton = byId("load", HTMLButtonElement);
const cancelButton = byId("cancel-load", HTMLButtonElement);
const loadingBox = byId("loading", HTMLDivElement);
const bar = byId("progress", HTMLProgressElement);
const barText = byId("progress-text", HTMLParagraphElement);
const status = byId("status", HTMLParagraphElement);
const fallback = byId("fallback", HTMLParagraphElement);

/** What the rest of the page does when the model comes and goes. */
export interface ModelEvents {
  /** A model is ready to write. */
  loaded(generator: Generator): void;
  /** The model that was there is about to go; resolves when nothing uses it any more. */
  leaving(): Promise<void>;
}

interface Load {
  controller: AbortController;
  /** Settles, never rejects, when the load has ended one way or another. */
  ended: Promise<void>;
}

let events: ModelEvents;
let generator: Generator | null = null;
let current: Load | null = null;

function nameOf(source: ModelSource): string {
  if (typeof source === "string" || source instanceof URL) return String(source);
  const blobs: Blob[] = Symbol.iterator in source.files ? [...source.files] : Object.values(source.files);
  const size = blobs.reduce((sum, blob) => sum + blob.size, 0);
  return `${countText(blobs.length, "file")} from disk (${bytesText(size)})`;
}

function deviceText(info: GeneratorInfo): string {
  if (info.device === "webgpu") return info.adapter === null ? "GPU" : `GPU (${info.adapter})`;
  return info.threads > 1 ? `CPU (${info.threads} threads)` : "CPU";
}

function showInfo(info: GeneratorInfo, name: string): void {
  status.textContent = [
    `${name} is loaded`,
    deviceText(info),
    info.dtype,
    `${parametersText(info.parameters)} parameters (${bytesText(info.weight_bytes)})`,
    `window of ${countText(info.context_window, "token")}`,
    `self-test ${info.self_test}`,
  ].join(" · ");
  const remarks = [...info.warnings];
  if (info.fallback_reason !== null) remarks.unshift(`Why not the GPU: ${info.fallback_reason}`);
  fallback.hidden = remarks.length === 0;
  fallback.textContent = remarks.join(" · ");
}

function showProgress(event: ProgressEvent): void {
  // The other events are about single files; this one is about the whole load.
  if (event.status !== "progress_total") return;
  // While the size is not known, the bar only shows that something is under way.
  if (event.progress === null) bar.removeAttribute("value");
  else if (event.total > 0 || event.progress > 0) bar.value = event.progress;
  barText.textContent = progressText(event);
  bar.setAttribute("aria-valuetext", barText.textContent);
}

function showLoading(name: string): void {
  setState("loading");
  hideAlert();
  bar.removeAttribute("value");
  bar.removeAttribute("aria-valuetext");
  barText.textContent = "Starting…";
  loadingBox.hidden = false;
  fallback.hidden = true;
  status.textContent = `Loading ${name}`;
  announce(`Loading ${name}`);
}

function showEnded(state: "ready" | "failed", said: string): void {
  swapFocus(cancelButton, loadButton);
  loadingBox.hidden = true;
  setState(state);
  announce(said);
}

async function run(source: ModelSource, controller: AbortController): Promise<void> {
  const name = nameOf(source);
  const options: CreateGeneratorOptions = {
    device: device.value as Device,
    dtype: dtype.value as DType,
    signal: controller.signal,
    progress_callback: (event) => {
      if (!controller.signal.aborted) showProgress(event);
    },
  };
  try {
    if (generator) {
      // The old model goes before the new one comes, since both may not fit into memory.
      await events.leaving();
      const old = generator;
      generator = null;
      await old.dispose();
    }
    showLoading(name);
    const loaded = await createGenerator(source, options);
    if (controller.signal.aborted) {
      // It was cancelled after its last byte had come.
      await loaded.dispose();
      throw new DOMException("loading was cancelled", "AbortError");
    }
    generator = loaded;
    showInfo(loaded.info, name);
    showEnded("ready", `${name} is ready on the ${loaded.info.device === "webgpu" ? "GPU" : "CPU"}.`);
    if (typeof source === "string") keep("model");
    events.loaded(loaded);
  } catch (error) {
    if (isAbort(error)) {
      status.textContent = `Cancelled: ${name} is not loaded.`;
      showEnded("failed", "Loading was cancelled.");
      return;
    }
    status.textContent = `No model is loaded: ${name} failed to load.`;
    showEnded("failed", "Loading failed.");
    showError(
      error,
      retry(() => load(source)),
    );
  }
}

/** Loads a model; a load already under way is cancelled first, and the model that is there is disposed of. */
export function load(source: ModelSource): void {
  const before = current;
  before?.controller.abort();
  const controller = new AbortController();
  const ended = (async (): Promise<void> => {
    await before?.ended;
    // Another load may have been asked for while the one before was ending.
    if (!controller.signal.aborted) await run(source, controller);
  })();
  const mine: Load = { controller, ended };
  current = mine;
  ended.then(
    () => {
      if (current === mine) current = null;
    },
    (error: unknown) =>
      showError(
        error,
        retry(() => load(source)),
      ),
  );
}

/** Loads what the field names; an empty field means the demo. */
export function loadChosen(): void {
  if (field.value.trim() === "") field.value = "demo";
  load(field.value.trim());
}

/** The device was lost: what is loaded cannot be used any more. */
export function markLost(): void {
  setState("failed");
  status.textContent = "The model is no longer loaded.";
}

/** Wires the chooser. */
export function startModel(wiring: ModelEvents): void {
  events = wiring;
  byId("model-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    loadChosen();
  });
  cancelButton.addEventListener("click", () => current?.controller.abort());
  startFiles((files) => load({ files }), showError);
}

/**
 * The first load: what a link names, else the model of the last visit if it is still on this machine, else the demo.
 * So no visit begins with a large download that nobody asked for.
 */
export async function loadFirst(linkedModel: string | null): Promise<void> {
  const last = field.value.trim();
  if (linkedModel === null && last !== "demo" && last !== "") {
    try {
      if (!(await isCached(last, { dtype: dtype.value as DType }))) field.value = "demo";
    } catch (error) {
      const why = messageOf(error);
      note(`Not known whether ${last} is still on this machine: ${why}.`);
      field.value = "demo";
    }
  }
  // The user may have chosen a model meanwhile.
  if (current === null && generator === null) loadChosen();
}
