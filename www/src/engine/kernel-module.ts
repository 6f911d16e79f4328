/** What the first thread of the kernels and the others have in common. */

/** The only message to a thread. */
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

/** The only message of a thread: it is about to wait for its first pass, or why it cannot. */
export type FromThread = { kind: "ready" } | { kind: "failed"; message: string };

/** What a module of the kernels imports: the memory, the clock, and how its threads wait for each other. */
export function imports(memory: WebAssembly.Memory): WebAssembly.Imports {
  const words = () => new Int32Array(memory.buffer);
  return {
    env: {
      memory,
      sleep: (word: number, expected: number) => void Atomics.wait(words(), word >>> 2, expected | 0),
      now: () => performance.now(),
      wake: (word: number) => void Atomics.notify(words(), word >>> 2),
    },
  };
}
