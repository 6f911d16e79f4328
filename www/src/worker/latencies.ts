/** What `stats()` tells: how long tokens take, and what each asks of the GPU. */

import type { GeneratorStats } from "../api/types.js";

/** Tokens that percentiles are taken over: the most recent ones. */
const WINDOW = 1024;

/** What has been asked of the GPU so far (src/engine/gpu/context.rs); undefined on the CPU. */
export type Counters = { n_dispatches: number; n_submits: number; n_objects: number; read_bytes: number; encode_ms: number } | undefined;

export class Latencies {
  #recent_ms: number[] = [];
  #tokens = 0;
  #total_ms = 0;
  #gpu: Counters;
  /** Tells how far the counters are. */
  readonly counters: () => Counters;

  constructor(counters: () => Counters) {
    this.counters = counters;
  }

  /** One decoded token, before which the counters were at `before`. The first of a text waits for the prompt and does not belong here. */
  add(ms: number, before: Counters): void {
    this.#recent_ms[this.#tokens % WINDOW] = ms;
    this.#tokens += 1;
    this.#total_ms += ms;
    const now = this.counters();
    if (!now || !before) return;
    this.#gpu ??= { n_dispatches: 0, n_submits: 0, n_objects: 0, read_bytes: 0, encode_ms: 0 };
    for (const name of Object.keys(this.#gpu) as (keyof typeof now)[]) this.#gpu[name] += now[name] - before[name];
  }

  stats(bytes_held: number): GeneratorStats {
    const sorted = [...this.#recent_ms].sort((a, b) => a - b);
    const percentile = (p: number) => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    const per_token = (n: number | undefined) => (n === undefined ? null : n / this.#tokens);
    return {
      tokens: this.#tokens,
      token_ms: { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) },
      tokens_per_second: this.#total_ms > 0 ? (1000 * this.#tokens) / this.#total_ms : 0,
      bytes_held,
      dispatches_per_token: per_token(this.#gpu?.n_dispatches),
      submits_per_token: per_token(this.#gpu?.n_submits),
      objects_per_token: per_token(this.#gpu?.n_objects),
      read_bytes_per_token: per_token(this.#gpu?.read_bytes),
      encode_ms_per_token: per_token(this.#gpu?.encode_ms),
    };
  }
}
