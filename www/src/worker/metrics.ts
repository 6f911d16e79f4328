/** What `Generator.stats` tells: how long tokens take, how full passes are, and what each token asks of the GPU. */

import type { GeneratorStats, Percentiles } from "../api/types.js";
import type { TextEvent } from "./task.js";

/** Figures are taken over this many of the most recent tokens, first tokens and passes. */
const WINDOW = 1024;

/** What has been asked of the GPU so far; undefined on the CPU. */
export type Counters =
  | { n_dispatches: number; n_submits: number; n_objects: number; read_bytes: number; encode_ms: number }
  | undefined;

/** What the scheduler tells of itself. */
export interface Figures {
  max_batch_size: number;
  n_running: number;
  n_waiting: number;
  n_guessed: number;
  n_right: number;
  cache_bytes: number;
}

/** The most recent of some numbers. */
class Recent {
  #numbers: number[] = [];
  #n = 0;

  add(number: number): void {
    this.#numbers[this.#n++ % WINDOW] = number;
  }

  percentiles(): Percentiles {
    const sorted = [...this.#numbers].sort((a, b) => a - b);
    const at = (p: number) => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
  }

  mean(): number {
    return this.#numbers.reduce((sum, number) => sum + number, 0) / Math.max(1, this.#numbers.length);
  }
}

export class Metrics {
  #firstMs = new Recent();
  #tokenMs = new Recent();
  #batchSizes = new Recent();
  /** How many passes there were with 1, 2, … texts. */
  #passes: number[] = [];
  #tokens = 0;
  /** Tokens that are not the first of a text, and the time of the steps that wrote them. */
  #nextTokens = 0;
  #nextMs = 0;
  /** Of these, the ones written in steps that did nothing else, and what those steps asked of the GPU. */
  #countedTokens = 0;
  #gpu: Counters;
  /** Such tokens of the step under way. */
  #nextOfStep = 0;
  /** Reads what has been asked of the GPU so far. */
  readonly counters: () => Counters;

  constructor(counters: () => Counters) {
    this.counters = counters;
  }

  /** Notes that the text, or the first text, of a request has begun, so long after it was asked for. */
  firstToken(ms: number): void {
    this.#firstMs.add(ms);
  }

  /** Notes a token that is not the first of its text, so long after the one before. */
  nextToken(ms: number): void {
    this.#tokenMs.add(ms);
    this.#nextOfStep += 1;
  }

  /** Notes a step that took so long and before which the counters were at `before`, when its tokens are noted. */
  step(events: TextEvent[], ms: number, before: Counters): void {
    const nNext = this.#nextOfStep;
    this.#nextOfStep = 0;
    const nTexts = new Set(events.map(({ id }) => id)).size;
    if (nTexts > 0) {
      this.#batchSizes.add(nTexts);
      while (this.#passes.length < nTexts) this.#passes.push(0);
      this.#passes[nTexts - 1] = (this.#passes[nTexts - 1] ?? 0) + 1;
    }
    this.#tokens += events.filter(({ kind }) => kind === "token").length;
    if (nNext === 0) return;
    this.#nextTokens += nNext;
    this.#nextMs += ms;
    const now = this.counters();
    if (!now || !before || nNext < events.length) return;
    this.#countedTokens += nNext;
    this.#gpu ??= { n_dispatches: 0, n_submits: 0, n_objects: 0, read_bytes: 0, encode_ms: 0 };
    for (const name of Object.keys(this.#gpu) as (keyof typeof now)[]) this.#gpu[name] += now[name] - before[name];
  }

  stats(
    figures: Figures,
    memory: Pick<GeneratorStats, "bytes_held" | "cache_bytes" | "open_sessions">,
  ): GeneratorStats {
    const perToken = (n: number | undefined) => (n === undefined ? null : n / this.#countedTokens);
    const tokenMs = this.#tokenMs.mean();
    return {
      tokens: this.#tokens,
      first_token_ms: this.#firstMs.percentiles(),
      token_ms: this.#tokenMs.percentiles(),
      tokens_per_second: this.#nextMs > 0 ? (1000 * this.#nextTokens) / this.#nextMs : 0,
      tokens_per_second_per_text: tokenMs > 0 ? 1000 / tokenMs : 0,
      batch_size: figures.n_running,
      mean_batch_size: this.#batchSizes.mean(),
      passes_by_batch_size: this.#passes,
      max_batch_size: figures.max_batch_size,
      queue_length: figures.n_waiting,
      draft_tokens: figures.n_guessed,
      draft_acceptance: figures.n_guessed > 0 ? figures.n_right / figures.n_guessed : null,
      ...memory,
      dispatches_per_token: perToken(this.#gpu?.n_dispatches),
      submits_per_token: perToken(this.#gpu?.n_submits),
      objects_per_token: perToken(this.#gpu?.n_objects),
      read_bytes_per_token: perToken(this.#gpu?.read_bytes),
      encode_ms_per_token: perToken(this.#gpu?.encode_ms),
    };
  }
}
