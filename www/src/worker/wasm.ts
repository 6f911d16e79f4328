/** The WebAssembly module of the models: started once, and heard when it panics. */

import init, { onPanic } from "../../wasm/gpt2_web.js";

let lastPanic: string | undefined;

/** Compiles and starts the WebAssembly module; the second time it is there already. */
export async function startWasm(url: string | null): ReturnType<typeof init> {
  const exports = await init({ module_or_path: url ?? new URL("./gpt2_web_bg.wasm", import.meta.url) });
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

/** The folder in which this module and those of the kernels lie. */
export function moduleFolder(url: string | null): URL {
  return new URL(".", url ?? import.meta.url);
}
