/** One more thread of the kernels: waits for passes and does its part of each. Started by kernels.ts, ended with its worker. */

import { imports } from "./kernels.js";

/** The only message. */
export interface ToThread {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** From 1 on. */
  index: number;
  /** Top of this thread's stack. */
  stack: number;
  /** Passes that there have been so far. */
  epoch: number;
}

interface Exports {
  __stack_pointer: WebAssembly.Global;
  member(index: number, epoch: number): never;
}

const scope = globalThis as unknown as { onmessage: (event: MessageEvent<ToThread>) => void; postMessage(message: unknown): void };

scope.onmessage = async ({ data: { module, memory, index, stack, epoch } }) => {
  const instance = await WebAssembly.instantiate(module, imports(memory));
  const exports = instance.exports as unknown as Exports;
  exports.__stack_pointer.value = stack;
  scope.postMessage("ready");
  exports.member(index, epoch);
};
