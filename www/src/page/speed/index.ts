/** Speed: how fast the kernels are here (`kernel-bench.ts`). */

import { startKernelBench } from "./kernel-bench.js";

/** Wires the view. */
export function start(): void {
  startKernelBench();
}
