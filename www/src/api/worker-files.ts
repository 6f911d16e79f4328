/** The option `wasm_url`. */

import { workerFiles } from "../files/assets.js";
import { invalidOption } from "./errors.js";
import type { WorkerFile } from "./messages.js";
import { startable } from "./start-worker.js";
import type { CreateGeneratorOptions } from "./types.js";

/** The addresses of the worker's files, where the caller says or where the build laid them. */
export function filesFor(wasmUrl: CreateGeneratorOptions["wasm_url"]): Record<WorkerFile, string> {
  const parse = (url: string | URL, base: string) => {
    try {
      return new URL(url, base);
    } catch {
      throw invalidOption("wasm_url", "a URL", String(url));
    }
  };
  let place: ((file: WorkerFile) => URL) | undefined;
  if (typeof wasmUrl === "function") place = (file) => parse(wasmUrl(file), location.href);
  else if (wasmUrl !== undefined) {
    const folder = parse(wasmUrl, location.href);
    if (!folder.pathname.endsWith("/")) folder.pathname += "/";
    place = (file) => new URL(file, folder);
  }
  const urls = Object.entries(workerFiles(place)) as [WorkerFile, URL][];
  const start = ([file, url]: [WorkerFile, URL]) => [file, file.endsWith("-thread.js") ? startable(url) : url.href];
  return Object.fromEntries(urls.map(start)) as Record<WorkerFile, string>;
}
