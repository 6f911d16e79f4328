/** The WebAssembly module of the models: started once, and heard when it panics. */

import init, { onPanic } from "../../wasm/gpt2_web.js";
import { fetchModule } from "../engine/fetch-module.js";

let lastPanic: string | undefined;

let started: ReturnType<typeof init> | undefined;

/** Compiles and starts the WebAssembly module; the second time it is there already. */
export async function startWasm(url: string): ReturnType<typeof init> {
  started ??= fetchModule("gpt2_web_bg.wasm", url, null).then((response) => init({ module_or_path: response }));
  started.catch(() => (started = undefined)); // whoever asks again may have a connection again
  const exports = await started;
  // A panic leaves the promise it happened in pending for ever, and the trap that follows it says nothing of the cause.
  onPanic((message) => {
    lastPanic = message;
  });
  return exports;
}

/** What the last panic said, if there was one: the module is unusable since. */
export function panicMessage(): string | undefined {
  return lastPanic;
}
