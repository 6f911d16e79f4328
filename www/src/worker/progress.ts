/** Progress events of one load: per file and in all, thinned out so that they never cost more than they tell. */

import type { ProgressEvent, ProgressPhase } from "../api/types.js";

/** At most one event of a kind in this time; both ends always. */
const INTERVAL_MS = 50;

export class Progress {
  #name: string;
  #emit: (event: ProgressEvent) => void;
  #files = new Map<string, { loaded: number; total: number }>();
  #expected_total = 0;
  /** Bytes loaded at the ends of the last few seconds: what the time left is reckoned from. */
  #marks: { ms: number; loaded: number }[] = [{ ms: performance.now(), loaded: 0 }];
  /** When the last event of each file, and of all together, was sent. */
  #last_ms = new Map<string, number>();
  #highest = 0;

  constructor(name: string, emit: (event: ProgressEvent) => void) {
    this.#name = name;
    this.#emit = emit;
  }

  /** Begins: 0 %. */
  start(): void {
    this.#send("progress_total", "download", "", 0, 0, 0);
  }

  /** What all files together will take, as far as it can be known beforehand. */
  expect(bytes: number): void {
    this.#expected_total = bytes;
  }

  /** A phase that has no bytes of its own. */
  phase(phase: ProgressPhase): void {
    const { loaded, total } = this.#sums();
    this.#send("progress_total", phase, "", this.#highest, loaded, total);
  }

  /** So many of the GPU's programs are compiled. */
  compiled(n: number, total: number): void {
    this.#send("progress", "compile", "", percent(n, total), 0, 0);
  }

  /** A file is about to be read. */
  initiate(file: string): void {
    this.#send("initiate", "download", file, 0, 0, 0);
  }

  /** A file has begun; `total` is 0 where it is not known. */
  open(file: string, total: number): void {
    this.#files.set(file, { loaded: 0, total });
    this.#send("download", "download", file, 0, 0, total);
    this.#send("progress", "download", file, 0, 0, total);
  }

  /** Some bytes of a file came. */
  advance(file: string, bytes: number): void {
    const entry = this.#files.get(file);
    if (!entry) return;
    entry.loaded += bytes;
    if (this.#due(file)) this.#send("progress", "download", file, percent(entry.loaded, entry.total), entry.loaded, entry.total);
    if (this.#due("")) {
      const { loaded, total } = this.#sums();
      // a total that turns out larger must not make the bar run backwards
      this.#highest = Math.max(this.#highest, Math.min(99, percent(loaded, total)));
      this.#send("progress_total", "download", "", this.#highest, loaded, total);
    }
  }

  /** A file is whole. */
  close(file: string): void {
    const loaded = this.#files.get(file)?.loaded ?? 0;
    this.#files.set(file, { loaded, total: loaded });
    this.#send("progress", "download", file, 100, loaded, loaded);
    this.#send("done", "download", file, 100, loaded, loaded);
  }

  /** Everything is there: 100 %. */
  finish(): void {
    const { loaded } = this.#sums();
    this.#send("progress_total", "convert", "", 100, loaded, loaded);
    this.#send("ready", "convert", "", 100, loaded, loaded);
  }

  #sums(): { loaded: number; total: number } {
    let [loaded, total] = [0, 0];
    for (const file of this.#files.values()) {
      loaded += file.loaded;
      total += Math.max(file.total, file.loaded);
    }
    return { loaded, total: Math.max(total, this.#expected_total) };
  }

  /** By the rate of the last few seconds, since what comes from the cache comes faster than what is fetched. */
  #timeLeft(): number | null {
    const { loaded, total } = this.#sums();
    const now = performance.now();
    if (now - (this.#marks.at(-1)?.ms ?? 0) > 1000) this.#marks = [...this.#marks, { ms: now, loaded }].slice(-5);
    const from = this.#marks[0] ?? { ms: now, loaded };
    const is_known = now - from.ms > 500 && loaded > from.loaded && total > loaded;
    return is_known ? Math.round(((now - from.ms) * (total - loaded)) / (loaded - from.loaded)) : null;
  }

  #due(key: string): boolean {
    const now = performance.now();
    if (now - (this.#last_ms.get(key) ?? -Infinity) < INTERVAL_MS) return false;
    this.#last_ms.set(key, now);
    return true;
  }

  #send(status: ProgressEvent["status"], phase: ProgressPhase, file: string, progress: number, loaded: number, total: number): void {
    const eta_ms = progress >= 100 ? 0 : this.#timeLeft();
    this.#emit({ status, phase, name: this.#name, file, progress, loaded, total, eta_ms });
  }
}

function percent(loaded: number, total: number): number {
  return total > 0 ? Math.min(100, (100 * loaded) / total) : 0;
}
