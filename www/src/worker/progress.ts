/** Progress events of one load: of each file and of all together, and not too many of them. */

import type { ProgressEvent, ProgressPhase } from "../api/types.js";

/** Between the first and the last event of a file, one is sent in this time at most. */
const INTERVAL_MS = 50;

export class Progress {
  #name: string;
  #emit: (event: ProgressEvent) => void;
  #files = new Map<string, { loaded: number; total: number }>();
  #expectedTotal = 0;
  /** Bytes that were loaded at the ends of the last few seconds; the time left is computed from them. */
  #marks: { ms: number; loaded: number }[] = [{ ms: performance.now(), loaded: 0 }];
  /** When the last event of each file, and of all together, was sent. */
  #lastMs = new Map<string, number>();
  #highest = 0;

  constructor(name: string, emit: (event: ProgressEvent) => void) {
    this.#name = name;
    this.#emit = emit;
  }

  /** Begins: 0 %. */
  start(): void {
    this.#send("progress_total", "download", "", { progress: 0 });
  }

  /** What all files together will take, as far as it can be known beforehand. */
  expect(bytes: number): void {
    this.#expectedTotal = bytes;
  }

  /** A phase that has no bytes of its own. */
  phase(phase: ProgressPhase): void {
    const { loaded, total } = this.#sums();
    this.#send("progress_total", phase, "", { progress: this.#highest, loaded, total });
  }

  /** So many of the GPU's programs are compiled. */
  compiled(n: number, total: number): void {
    this.#send("progress", "compile", "", { progress: percent(n, total) });
  }

  /** A file is about to be read. */
  initiate(file: string): void {
    this.#send("initiate", "download", file, { progress: 0 });
  }

  /** A file has begun; `total` is 0 where it is not known. */
  open(file: string, total: number): void {
    this.#files.set(file, { loaded: 0, total });
    this.#send("download", "download", file, { progress: 0, total });
    this.#send("progress", "download", file, { progress: 0, total });
  }

  /** Some bytes of a file came. */
  advance(file: string, bytes: number): void {
    const entry = this.#files.get(file);
    if (!entry) return;
    entry.loaded += bytes;
    if (this.#due(file)) {
      this.#send("progress", "download", file, { ...entry, progress: percent(entry.loaded, entry.total) });
    }
    if (this.#due("")) {
      const { loaded, total } = this.#sums();
      // A total that turns out larger than was known must not make the bar run backwards.
      this.#highest = Math.max(this.#highest, Math.min(99, percent(loaded, total)));
      this.#send("progress_total", "download", "", { progress: this.#highest, loaded, total });
    }
  }

  /** A file is whole. */
  close(file: string): void {
    const loaded = this.#files.get(file)?.loaded ?? 0;
    this.#files.set(file, { loaded, total: loaded });
    this.#send("progress", "download", file, { progress: 100, loaded, total: loaded });
    this.#send("done", "download", file, { progress: 100, loaded, total: loaded });
  }

  /** Everything is there: 100 %. */
  finish(): void {
    const { loaded } = this.#sums();
    this.#send("progress_total", "convert", "", { progress: 100, loaded, total: loaded });
    this.#send("ready", "convert", "", { progress: 100, loaded, total: loaded });
  }

  #sums(): { loaded: number; total: number } {
    let [loaded, total] = [0, 0];
    for (const file of this.#files.values()) {
      loaded += file.loaded;
      total += Math.max(file.total, file.loaded);
    }
    return { loaded, total: Math.max(total, this.#expectedTotal) };
  }

  /** Computed from the last few seconds only, since reading from the cache is faster than fetching. */
  #timeLeft(): number | null {
    const { loaded, total } = this.#sums();
    const now = performance.now();
    if (now - (this.#marks.at(-1)?.ms ?? 0) > 1000) this.#marks = [...this.#marks, { ms: now, loaded }].slice(-5);
    const from = this.#marks[0] ?? { ms: now, loaded };
    const isKnown = now - from.ms > 500 && loaded > from.loaded && total > loaded;
    return isKnown ? Math.round(((now - from.ms) * (total - loaded)) / (loaded - from.loaded)) : null;
  }

  #due(key: string): boolean {
    const now = performance.now();
    if (now - (this.#lastMs.get(key) ?? -Infinity) < INTERVAL_MS) return false;
    this.#lastMs.set(key, now);
    return true;
  }

  #send(
    status: ProgressEvent["status"],
    phase: ProgressPhase,
    file: string,
    { progress, loaded = 0, total = 0 }: { progress: number; loaded?: number; total?: number },
  ): void {
    const etaMs = progress >= 100 ? 0 : this.#timeLeft();
    this.#emit({ status, phase, name: this.#name, file, progress, loaded, total, eta_ms: etaMs });
  }
}

function percent(loaded: number, total: number): number {
  return total > 0 ? Math.min(100, (100 * loaded) / total) : 0;
}
