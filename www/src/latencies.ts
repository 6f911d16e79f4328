/** What `stats()` tells: how long tokens take. */

import type { GeneratorStats } from "./types.js";

/** Tokens that percentiles are taken over: the most recent ones. */
const WINDOW = 1024;

export class Latencies {
  #recent_ms: number[] = [];
  #tokens = 0;
  #total_ms = 0;
  #dispatches = 0;

  /** One decoded token. The first of a text, which waits for the prompt, does not belong here. */
  add(ms: number, n_dispatches: number): void {
    this.#recent_ms[this.#tokens % WINDOW] = ms;
    this.#tokens += 1;
    this.#total_ms += ms;
    this.#dispatches += n_dispatches;
  }

  stats(bytes_held: number, is_gpu: boolean): GeneratorStats {
    const sorted = [...this.#recent_ms].sort((a, b) => a - b);
    const percentile = (p: number) => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    return {
      tokens: this.#tokens,
      token_ms: { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) },
      tokens_per_second: this.#total_ms > 0 ? (1000 * this.#tokens) / this.#total_ms : 0,
      bytes_held,
      dispatches_per_token: is_gpu && this.#tokens > 0 ? this.#dispatches / this.#tokens : null,
    };
  }
}
