/**
 * Where the package's own files are. Runs in the page's thread, where bundlers look: for each expression below they
 * emit the file that it names, and put the file's new address in its place. So each is written out, once.
 */

import type { WorkerFile } from "../api/messages.js";

const WORKER_FILES: Readonly<Record<WorkerFile, () => URL>> = {
  "gpt2_web_bg.wasm": () => new URL("./gpt2_web_bg.wasm", import.meta.url),
  "gpt2_web_full_bg.wasm": () => new URL("./gpt2_web_full_bg.wasm", import.meta.url),
  "gpt2_web_full.js": () => new URL("./gpt2_web_full.js", import.meta.url),
  "kernels.wasm": () => new URL("./kernels.wasm", import.meta.url),
  "kernels-relaxed.wasm": () => new URL("./kernels-relaxed.wasm", import.meta.url),
  "kernels-threads.wasm": () => new URL("./kernels-threads.wasm", import.meta.url),
  "kernels-relaxed-threads.wasm": () => new URL("./kernels-relaxed-threads.wasm", import.meta.url),
  "kernel-thread.js": () => new URL("./kernel-thread.js", import.meta.url),
  "hash-thread.js": () => new URL("./hash-thread.js", import.meta.url),
};

const DEMO_FILES: Readonly<Record<string, () => URL>> = {
  "config.json": () => new URL("./demo/config.json", import.meta.url),
  "generation_config.json": () => new URL("./demo/generation_config.json", import.meta.url),
  "model.safetensors": () => new URL("./demo/model.safetensors", import.meta.url),
  "tokenizer.json": () => new URL("./demo/tokenizer.json", import.meta.url),
};

/** Some bundlers (Next.js's) put an object there whose address begins with a slash. */
const absolute = (url: URL) => new URL(String(url), globalThis.location?.href);

/** The worker's script. */
export function workerScript(): URL {
  return absolute(new URL("./worker.js", import.meta.url));
}

/** The files that the worker needs, at the addresses that `place` gives them, or else at those of the build. */
export function workerFiles(place: ((file: WorkerFile) => URL) | undefined): Record<WorkerFile, URL> {
  const entries = Object.entries(WORKER_FILES) as [WorkerFile, () => URL][];
  return Object.fromEntries(entries.map(([file, url]) => [file, place?.(file) ?? absolute(url())])) as Record<
    WorkerFile,
    URL
  >;
}

/** The demo model's files. */
export function demoFiles(): Record<string, string> {
  return Object.fromEntries(Object.entries(DEMO_FILES).map(([file, url]) => [file, absolute(url()).href]));
}
