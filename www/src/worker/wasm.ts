/**
 * The WebAssembly module of the models, heard when it panics. There are two builds of it: the small one knows the CPU
 * and GPT-2's tokenizer, the full one the GPU and every tokenizer besides. A worker fetches the one that it needs.
 */

import * as small from "../../wasm/gpt2_web.js";
import { makeError, messageOf } from "../api/errors.js";
import type { WorkerFile } from "../api/messages.js";
import type { Adapter } from "../engine/adapter.js";
import { fetchModule } from "../engine/fetch-module.js";

/** What both builds export. */
type Wasm = typeof small;

/** A build that is running. */
interface Running {
  wasm: Wasm;
  memory: WebAssembly.Memory;
}

type Build = "small" | "full";
type Files = Readonly<Record<WorkerFile, string>>;

let lastPanic: string | undefined;
let inUse: Running | undefined;
const started = new Map<Build, Promise<Running>>();

/** The build that a model needs on this device, as far as it is known before its tokenizer is. */
export function buildFor(device: string, adapter: Adapter | undefined): Build {
  const usesGpu = device === "webgpu" || (device === "auto" && adapter?.is_software === false);
  return usesGpu && adapter !== undefined ? "full" : "small";
}

/** Compiles and starts a build, in the place of the one in use. The second time it is there already. */
export async function startWasm(files: Files, wanted: Build): Promise<void> {
  const build = started.has("full") ? "full" : wanted; // which can do all that the small one can
  let starting = started.get(build);
  if (!starting) {
    starting = start(files, build);
    started.set(build, starting);
    starting.catch(() => started.delete(build)); // whoever asks again may have a connection again
  }
  inUse = await starting;
}

async function start(files: Files, build: Build): Promise<Running> {
  const file = build === "full" ? "gpt2_web_full_bg.wasm" : "gpt2_web_bg.wasm";
  const wasm = build === "full" ? importFull(files["gpt2_web_full.js"]) : small;
  const [{ default: init, onPanic }, response] = await Promise.all([wasm, fetchModule(file, files[file], null)]);
  const { memory } = await init({ module_or_path: response });
  // A panic leaves the promise it happened in pending for ever, and the trap that follows it says nothing of the cause.
  onPanic((message) => {
    lastPanic = message;
  });
  return { wasm: await wasm, memory };
}

/** The full build's own script, whose exports have the names and types of the small one's. */
async function importFull(url: string): Promise<Wasm> {
  try {
    return await import(/* webpackIgnore: true */ /* @vite-ignore */ url);
  } catch (error) {
    const expected = `${url}: expected the script gpt2_web_full.js of this package`;
    throw makeError("network", `${expected}, and it could not be loaded (${messageOf(error)})`, { url });
  }
}

/** Takes a build that its caller has started: a program that is no worker has other ways to its files. */
export function adoptWasm(wasm: Wasm, memory: WebAssembly.Memory): void {
  inUse = { wasm, memory };
}

/** What the build in use exports. */
export function wasm(): Wasm {
  return running().wasm;
}

/** Its memory. */
export function wasmMemory(): WebAssembly.Memory {
  return running().memory;
}

function running(): Running {
  if (!inUse) throw new Error("the WebAssembly module has not been started");
  return inUse;
}

/**
 * Frees what a failure has made useless. A trap leaves it in use for ever, which the module says in the place of the
 * failure; then its memory is lost until the worker ends, and the caller goes on with the failure itself.
 */
export function freeAfterFailure(object: { free(): void }): void {
  try {
    object.free();
  } catch (error) {
    console.warn(`gpt2-web: not freed after a failure (${messageOf(error)})`);
  }
}

/** Whether WebAssembly has trapped. What was in use then stays so for ever, and any further use of it is an error. */
export function isTrap(error: unknown): boolean {
  return error instanceof WebAssembly.RuntimeError;
}

/** What the last panic said, if there was one: the module is unusable since. */
export function panicMessage(): string | undefined {
  return lastPanic;
}
