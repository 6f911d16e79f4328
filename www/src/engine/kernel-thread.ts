/** One more thread of the kernels: does its part of each pass. Started by kernels.ts, and ended with that worker. */

import { type FromThread, imports, type ToThread } from "./kernel-module.js";

interface Exports {
  // biome-ignore lint/style/useNamingConvention: the linker gives this name
  __stack_pointer: WebAssembly.Global;
  member(index: number, epoch: number): never;
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToThread>) => void;
  postMessage(message: FromThread): void;
};

scope.onmessage = async ({ data: { module, memory, index, stack, epoch } }) => {
  let kernels: Exports;
  try {
    const instance = await WebAssembly.instantiate(module, imports(memory));
    kernels = instance.exports as unknown as Exports;
  } catch (error) {
    scope.postMessage({ kind: "failed", message: String(error) });
    return;
  }
  kernels.__stack_pointer.value = stack;
  scope.postMessage({ kind: "ready" });
  kernels.member(index, epoch);
};
