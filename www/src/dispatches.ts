/** Counts WebGPU dispatches, which are what a small model's speed depends on. */

let n_dispatches = 0;
let n_tokens = 0;
let installed = false;

/** One counter for the worker, whose device is its own. */
export const countDispatches = {
  /** Starts counting; does nothing the second time. */
  install(): void {
    if (installed) return;
    installed = true;
    const encoder = GPUComputePassEncoder.prototype;
    for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"] as const) {
      const original = encoder[name] as (...args: unknown[]) => undefined;
      Object.defineProperty(encoder, name, {
        ...Object.getOwnPropertyDescriptor(encoder, name),
        value(this: GPUComputePassEncoder, ...args: unknown[]) {
          n_dispatches += 1;
          return original.apply(this, args);
        },
      });
    }
  },

  /** A token was made. Loading and its self-test are not counted: the count begins at the first token. */
  token(): void {
    if (n_tokens === 0) n_dispatches = 0;
    n_tokens += 1;
  },

  /** Dispatches per token; `null` where no GPU is in use or too few tokens have been made to tell. */
  perToken(): number | null {
    return installed && n_tokens > 1 ? n_dispatches / (n_tokens - 1) : null;
  },
};
