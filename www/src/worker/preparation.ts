/** Making a GPU ready while the weights arrive. */

import type { Compiling } from "../../wasm/gpt2_web.js";
import type { Progress } from "./progress.js";

/** Measures the GPU, compiles its pipelines and tests it. */
export class Preparation {
  #running: Promise<void>;
  #tuning: string | undefined;
  #failure: { error: unknown } | undefined;
  #isStopped = false;
  #isAwaited = false;

  constructor(compiling: Compiling, progress: Progress, checkAbort: () => void) {
    const run = async () => {
      let total = 0;
      let nDone = 0;
      for (let step = await compiling.next(); step !== undefined && !this.#isStopped; step = await compiling.next()) {
        checkAbort();
        if (step === "tune") [total, this.#tuning] = [compiling.left, compiling.tuning];
        else if (step === "compile") nDone += 1;
        if (step === "self-test") progress.phase(step);
        else progress.compiled(nDone, total);
        // The weights are there, so this is what the whole load waits for.
        if (this.#isAwaited) progress.phase("compile");
      }
    };
    this.#running = run()
      .catch((error: unknown) => {
        this.#failure = { error };
      })
      .finally(() => compiling.free());
  }

  /** Throws what has gone wrong, so that a download for a GPU that is of no use ends. */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /** Gives up after the step under way. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Waits for the end. Returns what was measured, for the next visit. */
  async done(): Promise<string | undefined> {
    this.#isAwaited = true;
    await this.#running;
    this.check();
    return this.#tuning;
  }
}
