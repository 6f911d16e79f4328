/** A fine-tuning under way. */

import { makeError, reasonOf } from "../api/errors.js";
import { createGenerator, type Generator } from "../api/generator.js";
import type { WireWeights } from "../api/messages.js";
import type { GenerateOptions, GenerationResult } from "../api/types.js";
import { blobsOf, checkMemory, freeName, LearnedAdapter, LearnedModel } from "./adapter.js";
import { Learner } from "./learner.js";
import type { FromLearner, LearnedFiles, Method, Task } from "./messages.js";
import { StateWriter } from "./state-writer.js";
import type { Kept, StateEntry } from "./store.js";
import type { FinetuneEvent, FinetuneStart } from "./types.js";

/** What a run begins with. */
export interface Beginning {
  id: string;
  method: Method;
  /** What the adapter is to be called; `null` for the default. */
  name: string | null;
  task(): Promise<Task>;
  /** Where an earlier visit stood. */
  earlier: { state: StateEntry; eval_loss: number | null; steps: number } | null;
  saveState: boolean;
  signal: AbortSignal | undefined;
}

/**
 * An async iterable of steps; leaving the loop early stops the learning and keeps what it has, as {@link stop} does.
 *
 * It can be iterated once. It learns whether or not anybody iterates.
 */
export class FinetuneRun implements AsyncIterable<FinetuneEvent> {
  /** For {@link resumeFinetune}, if it is cut off. */
  readonly id: string;
  /** Resolves when the first step is about to be made. */
  readonly started: Promise<FinetuneStart>;
  /**
   * Resolves when learning has ended, with the best adapter, which is loaded in the generator. Rejects for
   * `method: "full"`.
   */
  readonly adapter: Promise<LearnedAdapter>;
  /** Resolves when learning with `method: "full"` has ended, with the best model. Rejects for an adapter. */
  readonly model: Promise<LearnedModel>;
  /** What did not work but did not stop the learning either. */
  readonly warnings: string[] = [];
  #generator: Generator;
  #beginning: Beginning;
  #learner: Learner | undefined;
  #isStopped = false;
  /** What has been learnt so far, or the beginning. */
  #current: LearnedFiles | undefined;
  #start: { resolve(start: FinetuneStart): void; reject(error: unknown): void };
  #events: FinetuneEvent[] = [];
  #ended = false;
  #error: { error: unknown } | undefined;
  /** Wakes a reader that waits. */
  #wake: () => void = () => {};
  #isRead = false;

  /** @internal */
  constructor(generator: Generator, beginning: Beginning) {
    [this.#generator, this.#beginning, this.id] = [generator, beginning, beginning.id];
    this.#start = { resolve: () => {}, reject: () => {} };
    this.started = new Promise((resolve, reject) => {
      this.#start = { resolve, reject };
    });
    const outcome = this.#run();
    const other = (found: string, expected: string) => {
      throw makeError("invalid_state", `method: "${beginning.method}" makes ${found}: expected \`run.${expected}\``);
    };
    this.adapter = outcome.then((made) => (made instanceof LearnedAdapter ? made : other("a model", "model")));
    this.model = outcome.then((made) => (made instanceof LearnedModel ? made : other("an adapter", "adapter")));
    const end = (failure?: { error: unknown }) => {
      [this.#ended, this.#error] = [true, failure];
      if (failure) this.#start.reject(failure.error);
      this.#wake();
    };
    // The loop over the steps throws a failure too, so one that nobody awaits here must not be reported as unhandled.
    for (const told of [this.started, this.adapter, this.model]) told.catch(() => undefined);
    outcome.then(
      () => end(),
      (error: unknown) => end({ error }),
    );
  }

  /** Ends the learning at once and keeps what it has: the best so far, or else the newest. */
  stop(): void {
    this.#isStopped = true;
    this.#learner?.stop();
  }

  /**
   * Writes with what has been learnt so far, while it learns on; as `generator.complete`, but for the option
   * `adapter`. With `method: "full"` that takes a second model in memory.
   */
  async sample(
    prompt: string | readonly number[],
    options: Omit<GenerateOptions, "adapter"> = {},
  ): Promise<GenerationResult> {
    await this.started;
    if (this.#beginning.method === "full") return this.#sampleModel(prompt, options);
    const name = await freeName(this.#generator, `${this.#beginning.name ?? "learned"}, learning`);
    await this.#generator.loadAdapter({ files: blobsOf(this.#current ?? new Map()) }, { name });
    try {
      return await this.#generator.complete(prompt, { ...options, adapter: name });
    } finally {
      await this.#generator.unloadAdapter(name);
    }
  }

  async #sampleModel(prompt: string | readonly number[], options: GenerateOptions): Promise<GenerationResult> {
    const { info, contact } = this.#generator;
    const kept = { files: this.#current ?? new Map(), step: 0, eval_loss: null };
    const files = await new LearnedModel(this.#generator, kept).merge();
    const place = contact.wasmUrl === undefined ? {} : { wasm_url: contact.wasmUrl };
    const dtype = info.dtype as "fp32" | "fp16" | "q8" | "q4";
    const pupil = await createGenerator({ files }, { device: "wasm", dtype, cache: false, ...place });
    try {
      return await pupil.complete(prompt, options);
    } finally {
      await pupil.dispose();
    }
  }

  /** The steps as they are made. To break out of the loop stops the learning, and keeps what it has. */
  async *[Symbol.asyncIterator](): AsyncGenerator<FinetuneEvent, void, undefined> {
    if (this.#isRead) throw new Error("a run can be read once");
    this.#isRead = true;
    let done = false;
    try {
      for (;;) {
        const event = this.#events.shift();
        if (event) yield event;
        else if (this.#ended) break;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      done = true;
    } finally {
      if (!done) this.stop();
    }
    if (this.#error) throw this.#error.error;
  }

  async #run(): Promise<LearnedAdapter | LearnedModel> {
    const { signal, name, method } = this.#beginning;
    const abort = () => this.#learner?.stop();
    signal?.addEventListener("abort", abort, { once: true });
    let writer: StateWriter | undefined;
    let isOver = false;
    try {
      if (signal?.aborted) throw reasonOf(signal);
      const task = await this.#beginning.task();
      const weights = await this.#generator.contact.client.ask("weights", {}).answer;
      this.#learner = new Learner(this.#generator);
      if (this.#isStopped || signal?.aborted) this.#learner.stop();
      const kept = await this.#learn(this.#learner, task, weights, (made) => {
        writer = made;
      });
      if (signal?.aborted) throw reasonOf(signal);
      if (!kept) throw makeError("nothing_learnt", "learning was stopped before its first step");
      this.#current = kept.files;
      if (method === "full") {
        isOver = true;
        return new LearnedModel(this.#generator, kept);
      }
      const free = await freeName(this.#generator, name ?? "learned");
      if (name !== null && free !== name) this.warnings.push(`the name ${name} is taken, so the adapter is ${free}`);
      await this.#generator.loadAdapter({ files: blobsOf(kept.files) }, { name: free });
      isOver = true;
      return new LearnedAdapter(this.#generator, free, kept);
    } catch (error) {
      // After any other error, such as a generator that was disposed of, it can go on at a later visit.
      isOver = signal?.aborted === true || (error as { code?: unknown } | null)?.code === "diverged";
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#learner?.stop();
      if (isOver) await writer?.forget();
    }
  }

  /** Learns to the end, or until it is stopped. Returns what is to be kept, if a step was made. */
  async #learn(
    learner: Learner,
    task: Task,
    weights: WireWeights,
    made: (writer: StateWriter) => void,
  ): Promise<Kept | null> {
    const { earlier, saveState } = this.#beginning;
    learner.post({ kind: "plan", weights, task });
    const planned = await learner.next();
    let [best, newest] = [earlier?.state.best ?? null, earlier?.state.newest ?? null];
    if (planned.kind !== "plan") return best ?? newest;
    const { memory_bytes: memoryBytes } = planned.plan;
    checkMemory("learning", memoryBytes);
    if (!(await learner.takeWeights(weights, memoryBytes))) return best ?? newest;
    learner.post({ kind: "learn", task, state: earlier?.state.state ?? null });
    let writer: StateWriter | undefined;
    const clock = { ms: 0, nSteps: 0 };
    for (;;) {
      const news = await learner.next();
      if (this.#generator.contact.client.isClosed) throw makeError("disposed", "the generator is disposed");
      if (news.kind === "stopped") return best ?? newest;
      if (news.kind === "started") {
        this.#current = news.files;
        const evalLoss = earlier ? earlier.eval_loss : news.eval_loss;
        this.#start.resolve({ steps: news.steps, eval_loss: evalLoss, memory_bytes: memoryBytes });
        if (saveState) {
          const { model, revision, dtype } = this.#generator.info;
          const { id, name } = this.#beginning;
          const entry = { id, name, model, revision, dtype, steps: news.steps, task, eval_loss: evalLoss };
          writer = new StateWriter(entry, (warning) => this.warnings.push(warning));
          made(writer);
        }
      } else if (news.kind === "step") {
        const { report, learnt } = news;
        if (learnt) {
          const { files, state } = learnt;
          this.#current = files;
          newest = { files, eval_loss: report.eval_loss, step: report.step };
          if (report.is_best) best = newest;
          writer?.keep({ id: this.id, step: report.step, saved_at: new Date().toISOString(), state, newest, best });
        }
        this.#tell(news, clock);
        if (report.is_last) return best ?? newest;
      } else throw makeError("internal", `expected a step of the worker that learns, found "${news.kind}"`);
    }
  }

  #tell({ report, ms }: Extract<FromLearner, { kind: "step" }>, clock: { ms: number; nSteps: number }): void {
    clock.ms += ms;
    clock.nSteps += 1;
    const { n_tokens: nTokens, is_last: isLast, ...shown } = report;
    const left = isLast ? 0 : report.steps - report.step;
    this.#events.push({
      ...shown,
      tokens_per_second: (1000 * nTokens) / ms,
      eta_ms: (left * clock.ms) / clock.nSteps,
    });
    this.#wake();
  }
}
