/** Speed: how fast the model in use is here (`whole-bench.ts`), and the kernels alone (`kernel-bench.ts`). */

import { startKernelBench } from "./kernel-bench.js";
import { startWholeBench } from "./whole-bench.js";

/** Wires the view. */
export function start(): void {
  startWholeBench();
  startKernelBench();
}
