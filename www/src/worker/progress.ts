/** Progress events of one load: of each file and of all together, and not too many of them. */

import type { ProgressEvent, ProgressPhase } from "../api/types.js";

/** Between the first and the last event of a file, one is sent in this time at most. */
const INTERVAL_MS = 50;

/** What a file's part of the load is; `total` is `null` where its size is not known. */
interface Part {
  loaded: number;
  total: number | null;
}

/** Bytes of all files; `total` is `null` while it is not known. */
type Sums = Part & { known: number };

export class Progress {
  #name: string;
  #emit: (event: ProgressEvent) => void;
  #files = new Map<string, Part>();
  /** Whether it is known which files there will be. */
  #isPlanned = false;
  /** What is done with each file besides fetching it. */
  #steps = new Map<string, number>();
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

  /** Says which files will be read, and the size of each where it is known. */
  plan(files: ReadonlyMap<string, number | null>): void {
    // What was planned before and has not begun may not come at all.
    for (const [file, { loaded }] of this.#files) if (loaded === 0 && !files.has(file)) this.#files.delete(file);
    for (const [file, total] of files) {
      const known = this.#files.get(file);
      this.#files.set(file, { loaded: known?.loaded ?? 0, total: known?.total ?? total });
    }
    this.#isPlanned = true;
  }

  /** A phase that has no bytes of its own. */
  phase(phase: ProgressPhase): void {
    this.#total(phase);
  }

  /** Another tab loads the same model: how far it is, where it tells. */
  waiting(other?: ProgressEvent): void {
    const { progress = null, loaded = 0, total = 0, eta_ms = null } = other ?? {};
    this.#emit({
      status: "progress_total",
      phase: "wait",
      name: this.#name,
      file: "",
      progress,
      loaded,
      total,
      eta_ms,
    });
  }

  /** So many of the GPU's programs are compiled. */
  compiled(n: number, total: number): void {
    this.#send("progress", "compile", "", { progress: percent(n, total) });
  }

  /** A file is about to be read. */
  initiate(file: string): void {
    this.#send("initiate", "download", file, { progress: 0 });
  }

  /** A file will not be read, since there is none of that name. */
  forget(file: string): void {
    this.#files.delete(file);
  }

  /** A file has begun; `bytes` is `null` where its size is not surely known. */
  open(file: string, bytes: number | null): void {
    const total = bytes ?? this.#files.get(file)?.total ?? null;
    this.#files.set(file, { loaded: 0, total });
    this.#send("download", "download", file, { progress: 0, total: total ?? 0 });
    this.#send("progress", "download", file, { progress: 0, total: total ?? 0 });
  }

  /** Some bytes of a file came. */
  advance(file: string, bytes: number): void {
    const part = this.#files.get(file);
    if (!part) return;
    part.loaded += bytes;
    const { loaded, total } = part;
    if (this.#due(file)) {
      this.#send("progress", "download", file, { loaded, total: total ?? 0, progress: percent(loaded, total) });
    }
    if (this.#due("")) this.#total("download");
  }

  /** A file is whole, and so is what was done with its bytes as they came. */
  close(file: string): void {
    for (const phase of ["convert", "upload"] as const) this.stepDone(phase, file);
    const loaded = this.#files.get(file)?.loaded ?? 0;
    this.#files.set(file, { loaded, total: loaded });
    this.#send("progress", "download", file, { progress: 100, loaded, total: loaded });
    this.#send("done", "download", file, { progress: 100, loaded, total: loaded });
  }

  /** Something else is done with a file's bytes; the first call, of no bytes, begins it. */
  step(phase: ProgressPhase, file: string, bytes: number): void {
    const key = `${phase} ${file}`;
    const isFirst = !this.#steps.has(key) || bytes === 0;
    const loaded = isFirst ? bytes : (this.#steps.get(key) ?? 0) + bytes;
    this.#steps.set(key, loaded);
    if (!isFirst && !this.#due(key)) return;
    const total = this.#files.get(file)?.total ?? null;
    this.#send("progress", phase, file, { loaded, total: total ?? 0, progress: Math.min(99, percent(loaded, total)) });
  }

  /** It is done with all of the file, if it was begun. */
  stepDone(phase: ProgressPhase, file: string): void {
    const loaded = this.#steps.get(`${phase} ${file}`);
    if (loaded === undefined) return;
    this.#steps.delete(`${phase} ${file}`);
    this.#send("progress", phase, file, { progress: 100, loaded, total: loaded });
  }

  /** Everything is there: 100 %. */
  finish(): void {
    const { loaded } = this.#sums();
    this.#send("progress_total", "convert", "", { progress: 100, loaded, total: loaded });
    this.#send("ready", "convert", "", { progress: 100, loaded, total: loaded });
  }

  /** So much of what is ready is kept for the next visit. */
  keeping(file: string, loaded: number, total: number): void {
    const isEnd = loaded === 0 || loaded === total;
    if (!isEnd && !this.#due(`keep ${file}`)) return;
    this.#send("progress", "keep", file, { loaded, total, progress: percent(loaded, total) });
  }

  #total(phase: ProgressPhase): void {
    const { loaded, total, known } = this.#sums();
    // A total that turns out larger than was known must not make the bar run backwards.
    if (total !== null) this.#highest = Math.max(this.#highest, Math.min(99, percent(loaded, total)));
    const progress = total !== null || loaded === 0 ? this.#highest : null;
    this.#send("progress_total", phase, "", { progress, loaded, total: known });
  }

  #sums(): Sums {
    let [loaded, known] = [0, 0];
    let isKnown = this.#isPlanned;
    for (const file of this.#files.values()) {
      loaded += file.loaded;
      known += Math.max(file.total ?? 0, file.loaded);
      isKnown &&= file.total !== null;
    }
    return { loaded, known, total: isKnown ? known : null };
  }

  /** Computed from the last few seconds only, since reading from the cache is faster than fetching. */
  #timeLeft(): number | null {
    const { loaded, total } = this.#sums();
    const now = performance.now();
    if (now - (this.#marks.at(-1)?.ms ?? 0) > 1000) this.#marks = [...this.#marks, { ms: now, loaded }].slice(-5);
    const from = this.#marks[0] ?? { ms: now, loaded };
    if (total === null || now - from.ms <= 500 || loaded <= from.loaded || total <= loaded) return null;
    return Math.round(((now - from.ms) * (total - loaded)) / (loaded - from.loaded));
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
    { progress, loaded = 0, total = 0 }: { progress: number | null; loaded?: number; total?: number },
  ): void {
    const etaMs = progress !== null && progress >= 100 ? 0 : this.#timeLeft();
    this.#emit({ status, phase, name: this.#name, file, progress, loaded, total, eta_ms: etaMs });
  }
}

function percent(loaded: number, total: number | null): number {
  return total !== null && total > 0 ? Math.min(100, (100 * loaded) / total) : 0;
}
