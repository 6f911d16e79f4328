/** The page's end of the worker that learns. */

import { fromWire, makeError } from "../api/errors.js";
import type { Generator } from "../api/generator.js";
import type { WireWeights } from "../api/messages.js";
import { startWorker } from "../api/start-worker.js";
import { learnFile } from "./assets.js";
import type { FromLearner, ToLearner } from "./messages.js";

/** Bytes of packed weights that are moved at once. */
const PIECE_BYTES = 4 << 20;

/** What comes of the worker besides its errors, and that it was stopped. */
type News = Exclude<FromLearner, { kind: "error" }> | { kind: "stopped" };

export class Learner {
  #worker: Worker;
  #generator: Generator;
  #news: News[] = [];
  /** Why nothing more comes. */
  #failure: { error: unknown } | undefined;
  /** Wakes whoever waits for news. */
  #wake: () => void = () => {};
  #isStopped = false;

  constructor(generator: Generator) {
    const { wasmUrl } = generator.contact;
    const script = learnFile("learn-worker.js", wasmUrl);
    this.#generator = generator;
    this.#worker = startWorker(script);
    this.#worker.addEventListener("message", ({ data }: MessageEvent<FromLearner>) => {
      if (data.kind === "error") this.#fail(fromWire(data.error));
      else this.#tell(data);
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      const why = event.message || `its script could not be loaded (is ${script.href} served?)`;
      this.#fail(makeError("internal", `the worker that learns failed: ${why}`));
    });
    this.post({ kind: "begin", module: learnFile("gpt2_learn_bg.wasm", wasmUrl).href });
  }

  post(message: ToLearner, transfer: Transferable[] = []): void {
    if (!this.#isStopped) this.#worker.postMessage(message, transfer);
  }

  /** Ends the worker at once, whatever it does. What has been told already is still given. */
  stop(): void {
    this.#isStopped = true;
    this.#worker.terminate();
    this.#wake();
  }

  /** What is told next. */
  async next(): Promise<News> {
    for (;;) {
      const news = this.#news.shift();
      if (news) return news;
      if (this.#isStopped) return { kind: "stopped" };
      if (this.#failure) throw this.#failure.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Gives the worker the weights that the generator holds. Returns whether it was not stopped on the way. */
  async takeWeights(weights: WireWeights, memoryBytes: number): Promise<boolean> {
    this.post({ kind: "weights", weights, memory_bytes: memoryBytes });
    for (let offset = 0; offset < weights.bytes; offset += PIECE_BYTES) {
      if (this.#failure) throw this.#failure.error;
      if (this.#isStopped) return false;
      const body = { offset, n_bytes: Math.min(PIECE_BYTES, weights.bytes - offset) };
      const bytes = await this.#generator.contact.client.ask("weights-read", body).answer;
      this.post({ kind: "piece", bytes }, [bytes.buffer]);
    }
    return !this.#isStopped;
  }

  #tell(news: News): void {
    this.#news.push(news);
    this.#wake();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }
}
