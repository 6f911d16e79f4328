/** What `Generator.stats` tells: how long tokens take, and what each asks of the GPU. */

import type { GeneratorStats } from "../api/types.js";

/** Percentiles are taken over this many of the most recent tokens. */
const WINDOW = 1024;

/** What has been asked of the GPU so far; undefined on the CPU. */
export type Counters =
  | { n_dispatches: number; n_submits: number; n_objects: number; read_bytes: number; encode_ms: number }
  | undefined;

export class Latencies {
  #recentMs: number[] = [];
  #tokens = 0;
  #totalMs = 0;
  #gpu: Counters;
  /** Reads the counters. */
  readonly counters: () => Counters;

  constructor(counters: () => Counters) {
    this.counters = counters;
  }

  /**
   * Counts one decoded token, before which the counters were at `before`. The first token of a text is left out, since
   * it waits for the prompt.
   */
  add(ms: number, before: Counters): void {
    this.#recentMs[this.#tokens % WINDOW] = ms;
    this.#tokens += 1;
    this.#totalMs += ms;
    const now = this.counters();
    if (!now || !before) return;
    this.#gpu ??= { n_dispatches: 0, n_submits: 0, n_objects: 0, read_bytes: 0, encode_ms: 0 };
    for (const name of Object.keys(this.#gpu) as (keyof typeof now)[]) this.#gpu[name] += now[name] - before[name];
  }

  stats(bytesHeld: number): GeneratorStats {
    const sorted = [...this.#recentMs].sort((a, b) => a - b);
    const percentile = (p: number) => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    const perToken = (n: number | undefined) => (n === undefined ? null : n / this.#tokens);
    return {
      tokens: this.#tokens,
      token_ms: { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) },
      tokens_per_second: this.#totalMs > 0 ? (1000 * this.#tokens) / this.#totalMs : 0,
      bytes_held: bytesHeld,
      dispatches_per_token: perToken(this.#gpu?.n_dispatches),
      submits_per_token: perToken(this.#gpu?.n_submits),
      objects_per_token: perToken(this.#gpu?.n_objects),
      read_bytes_per_token: perToken(this.#gpu?.read_bytes),
      encode_ms_per_token: perToken(this.#gpu?.encode_ms),
    };
  }
}
