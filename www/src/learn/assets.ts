/** Where the files are that learning needs. Bundlers look here: see files/assets.ts. Runs in the page's thread. */

import type { LearnFile } from "../api/messages.js";
import type { CreateGeneratorOptions } from "../api/types.js";
import { placeOf } from "../api/worker-files.js";

const LEARN_FILES: Readonly<Record<LearnFile, () => URL>> = {
  "gpt2_learn_bg.wasm": () => new URL("./gpt2_learn_bg.wasm", import.meta.url),
  "learn-worker.js": () => new URL("./learn-worker.js", import.meta.url),
};

/** The address of a file, where the caller says or where the build laid it. */
export function learnFile(file: LearnFile, wasmUrl: CreateGeneratorOptions["wasm_url"]): URL {
  // Some bundlers (Next.js's) put an object there whose address begins with a slash.
  return new URL(String(placeOf(wasmUrl)?.(file) ?? LEARN_FILES[file]()), globalThis.location.href);
}
