/** The threads of the kernels beside the worker's own. */

import { trustedScript } from "../api/trusted.js";
import type { FromThread, ToThread } from "./kernel-module.js";
import type { KernelFiles, Started } from "./kernel-start.js";

/** How long a thread may take to start. Its script may come over a slow network; some never answer. */
const START_MS = 10_000;

/** The threads that run a module together, the caller's among them. */
export class KernelTeam {
  /** How many there are. */
  size = 1;
  /** Why no more can be started. */
  refusal: string | null = null;
  #started: Started;
  #files: KernelFiles;
  #workers: Worker[] = [];

  constructor(started: Started, files: KernelFiles) {
    [this.#started, this.#files] = [started, files];
  }

  /** Makes it so many, or as many as can be started. */
  async resize(size: number): Promise<void> {
    while (this.refusal === null && this.#workers.length < size - 1) {
      try {
        this.#workers.push(await this.#startThread(this.#workers.length + 1));
      } catch (error) {
        // No other thread takes its place, since a worker that is being ended may still begin.
        this.refusal = (error as Error).message;
      }
    }
    this.size = Math.min(size, this.#workers.length + 1);
    this.#started.exports.set_members(this.size);
  }

  /** Starts a thread and waits until it is ready. Throws if it does not start, and ends it then. */
  async #startThread(index: number): Promise<Worker> {
    const { module, memory, exports } = this.#started;
    const script = trustedScript(this.#files["kernel-thread.js"]);
    const worker = new Worker(script, { type: "module", name: "gpt2-web kernels" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (why: string) => reject(new Error(`kernel thread ${index}: ${why}`));
        worker.onmessage = ({ data }: MessageEvent<FromThread>) =>
          data.kind === "ready" ? resolve() : fail(data.message);
        worker.onmessageerror = () => fail("its memory or module could not be passed on");
        worker.onerror = (event) => fail(event.message || "its script could not be loaded");
        timer = setTimeout(() => fail(`no answer within ${START_MS / 1000} s`), START_MS);
        const stack = exports.member_stack() >>> 0;
        const message: ToThread = { module, memory, index, stack, epoch: exports.epoch() };
        worker.postMessage(message); // throws where a browser cannot pass modules or shared memory on
      });
    } catch (error) {
      worker.terminate();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return worker;
  }
}
