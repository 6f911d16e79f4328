/** The option `wasm_url`. */

import { workerFiles } from "../files/assets.js";
import { invalidOption } from "./errors.js";
import type { WorkerFile } from "./messages.js";
import { startable } from "./start-worker.js";
import type { CreateGeneratorOptions } from "./types.js";

/** Where the caller says that a file of the package is; `undefined` if that is where the build laid it. */
export function placeOf(wasmUrl: CreateGeneratorOptions["wasm_url"]): ((file: string) => URL) | undefined {
  const parse = (url: string | URL, base: string) => {
    try {
      return new URL(url, base);
    } catch {
      throw invalidOption("wasm_url", "a URL", String(url));
    }
  };
  if (typeof wasmUrl === "function") return (file) => parse(wasmUrl(file), location.href);
  if (wasmUrl === undefined) return undefined;
  const folder = parse(wasmUrl, location.href);
  if (!folder.pathname.endsWith("/")) folder.pathname += "/";
  return (file) => new URL(file, folder);
}

/** The addresses of the worker's files, where the caller says or where the build laid them. */
export function filesFor(wasmUrl: CreateGeneratorOptions["wasm_url"]): Record<WorkerFile, string> {
  const urls = Object.entries(workerFiles(placeOf(wasmUrl))) as [WorkerFile, URL][];
  const start = ([file, url]: [WorkerFile, URL]) => [file, file.endsWith("-thread.js") ? startable(url) : url.href];
  return Object.fromEntries(urls.map(start)) as Record<WorkerFile, string>;
}
