/** Checks of what callers pass, as far as they can be made without the model. */

import { invalidOption } from "./errors.js";
import type { CreateGeneratorOptions, GenerateOptions } from "./types.js";

const is = {
  boolean: (v: unknown) => typeof v === "boolean",
  string: (v: unknown) => typeof v === "string",
  function: (v: unknown) => typeof v === "function",
  url: (v: unknown) => typeof v === "string" || (isObject(v) && typeof v.href === "string"),
};

/*
 * Objects of another frame are instances of that frame's classes, so what an object can do tells what it is.
 */

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Whether a value is an `AbortSignal`, of whichever frame. */
export function isSignal(value: unknown): value is AbortSignal {
  return isObject(value) && typeof value.aborted === "boolean" && typeof value.addEventListener === "function";
}

/** Whether a value is a `Worker`, of whichever frame. */
export function isWorker(value: unknown): value is Worker {
  return isObject(value) && typeof value.postMessage === "function" && typeof value.terminate === "function";
}

/** For each loading option, the check of its value, and what is expected in words. */
const CREATE: Record<keyof CreateGeneratorOptions, [(value: unknown) => boolean, string]> = {
  device: [(v) => v === "auto" || v === "webgpu" || v === "wasm", '"auto", "webgpu" or "wasm"'],
  dtype: [
    (v) => v === "auto" || v === "fp32" || v === "fp16" || v === "q8" || v === "q4",
    '"auto", "fp32", "fp16", "q8" or "q4"',
  ],
  threads: [(v) => v === "auto" || (Number.isInteger(v) && (v as number) >= 1), '"auto" or a whole number from 1 on'],
  max_batch_size: [(v) => Number.isInteger(v) && (v as number) >= 1, "a whole number from 1 on"],
  revision: [(v) => is.string(v) && v !== "", "a branch, tag or commit"],
  remote_host: [is.url, "a URL"],
  remote_path_template: [is.string, 'a path such as "{model}/resolve/{revision}/"'],
  fetch: [is.function, "a function like fetch"],
  cache: [is.boolean, "true or false"],
  verify: [is.boolean, "true or false"],
  progress_callback: [is.function, "a function"],
  signal: [isSignal, "an AbortSignal"],
  worker: [(v) => v === true || isWorker(v), "true or a Worker"],
  wasm_url: [(v) => is.url(v) || is.function(v), "the URL of a folder, or a function from a file's name to its URL"],
};

/** Refuses unknown options and values of the wrong kind. `undefined` is the same as left out. */
export function checkCreateOptions(options: CreateGeneratorOptions): void {
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(CREATE, name) ? CREATE[name as keyof CreateGeneratorOptions] : undefined;
    if (!rule) throw invalidOption(name, `one of ${Object.keys(CREATE).join(", ")}`, "an unknown option");
    if (value !== undefined && !rule[0](value)) throw invalidOption(name, rule[1], value);
  }
}

/** A prompt that can be posted; a list is copied. */
export function promptOf(prompt: unknown): string | number[] {
  return typeof prompt === "string" ? prompt : idsOf("prompt", prompt, "a string or a list of token ids");
}

/** Whether a value is a typed array of whole numbers with 32 bits, of whichever frame. */
function isIdArray(value: unknown): value is Uint32Array | Int32Array {
  const kind = ArrayBuffer.isView(value) ? Object.prototype.toString.call(value) : "";
  return kind === "[object Uint32Array]" || kind === "[object Int32Array]";
}

/** Token ids that can be posted. */
export function idsOf(name: string, value: unknown, expected = "a list of token ids"): number[] {
  const ids: unknown[] | undefined = Array.isArray(value) || isIdArray(value) ? [...value] : undefined;
  if (!ids) throw invalidOption(name, expected, value);
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || (id as number) < 0 || (id as number) > 0xffff_ffff);
  if (wrong >= 0) throw invalidOption(name, expected, ids[wrong]);
  return ids as number[];
}

/** Checks that a value is a signal, or none. */
export function checkSignal(signal: unknown): AbortSignal | undefined {
  if (signal === undefined || isSignal(signal)) return signal;
  throw invalidOption("signal", "an AbortSignal", signal);
}

/** Checks that a value is a callback; gives one that does nothing where there is none. */
export function checkCallback<T>(callback: unknown): (event: T) => void {
  if (callback === undefined) return () => undefined;
  if (typeof callback === "function") return callback as (event: T) => void;
  throw invalidOption("progress_callback", "a function", callback);
}

/** The options as JSON for Rust, which checks them. Values that JSON has no form for are passed as their text. */
export function generateOptionsJson(options: GenerateOptions): string {
  return JSON.stringify(options, (_, value: unknown) => {
    if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value))) return String(value);
    if (typeof value === "function" || typeof value === "symbol") return String(value);
    return value;
  });
}
