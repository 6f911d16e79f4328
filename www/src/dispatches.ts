/** Counts WebGPU dispatches, which are what a small model's speed depends on. */

let n_dispatches = 0;
let is_installed = false;

/** Starts counting, for all of the worker; does nothing the second time. */
export function countDispatches(): void {
  if (is_installed) return;
  is_installed = true;
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
}

/** Dispatches since counting began. */
export const dispatchesSoFar = (): number => n_dispatches;
