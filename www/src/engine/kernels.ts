/**
 * The CPU kernels: a small WebAssembly module of their own, whose memory holds the packed weights and, where the page is
 * cross-origin isolated, is shared by several threads. Called from Rust (src/web/kernels.rs). Runs in the worker.
 */

import { relaxedSimd } from "wasm-feature-detect";
import { breathe } from "./breathe.js";
import type { ToThread } from "./kernel-thread.js";

/** What the module exports (kernels/src/module). */
interface Exports {
  create(...numbers: number[]): number;
  image(): number;
  ids(): number;
  cache_new(): number;
  cache_clone(cache: number): number;
  cache_truncate(cache: number, n_tokens: number): void;
  cache_free(cache: number): void;
  forward(cache: number, n_ids: number, rows: number, with_attentions: number): number;
  advance(budget_ms: number): number;
  logits(): number;
  n_logits(): number;
  attentions(layer: number): number;
  n_attentions(layer: number): number;
  sweep(): number;
  fill(seed: number): void;
  set_profile(is_on: number): void;
  op_ms(): number;
  // only of the modules with shared memory
  set_members(n_members: number): void;
  member_stack(): number;
  epoch(): number;
}

/** The parts of a pass (kernels/src/forward.rs: `Op`); each has its LayerNorm and the packing of its input with it. */
export const OPS = ["embed", "qkv", "attention", "proj", "fc", "proj2", "head"] as const;

/**
 * How long a pass runs before messages are let in: with the part that is under way when the time is up, a cancel is
 * heard within 50 ms.
 */
const BUDGET_MS = 30;
/** All that 32 bits can address. */
const MAX_PAGES = 65536;
/** More threads than this share the same memory bandwidth and only wait for one another. */
const MAX_THREADS = 8;

/** The kernels, with at most one model. */
export class Kernels {
  /** How many threads run it, this one included. */
  threads = 1;
  readonly memory: WebAssembly.Memory;
  #exports: Exports;
  #module: WebAssembly.Module;
  #workers: Worker[] = [];
  #is_shared: boolean;
  #isWanted: () => boolean;

  private constructor(module: WebAssembly.Module, memory: WebAssembly.Memory, exports: Exports, is_shared: boolean, isWanted: () => boolean) {
    this.#module = module;
    this.memory = memory;
    this.#exports = exports;
    this.#is_shared = is_shared;
    this.#isWanted = isWanted;
  }

  /**
   * Compiles and starts the module that this browser can run best; they lie in the folder `base`. `isWanted` is asked in
   * the midst of each pass that takes long: whether to go on with it.
   */
  static async start(base: URL, signal: AbortSignal, isWanted: () => boolean): Promise<Kernels> {
    const is_shared = globalThis.crossOriginIsolated === true;
    const name = `kernels${(await relaxedSimd()) ? "-relaxed" : ""}${is_shared ? "-threads" : ""}.wasm`;
    const response = await fetch(new URL(name, base), { signal });
    if (!response.ok) throw new Error(`${name}: the server says ${response.status} ${response.statusText}`);
    const module = await WebAssembly.compile(await response.arrayBuffer());
    const memory = new WebAssembly.Memory({ initial: 32, maximum: MAX_PAGES, shared: is_shared });
    const { exports } = await WebAssembly.instantiate(module, imports(memory));
    return new Kernels(module, memory, exports as unknown as Exports, is_shared, isWanted);
  }

  /** Makes room for a model. → bytes of its image; 0 if there is not so much memory */
  create(dims: Float64Array, dtype: number): number {
    return this.#exports.create(...dims, dtype) >>> 0;
  }

  /** Writes to the image. */
  write(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.memory.buffer, (this.#exports.image() >>> 0) + offset, bytes.byteLength).set(bytes);
  }

  /** A copy of a part of the image. */
  read(offset: number, n_bytes: number): Uint8Array<ArrayBuffer> {
    const part = new Uint8Array(n_bytes);
    part.set(new Uint8Array(this.memory.buffer, (this.#exports.image() >>> 0) + offset, n_bytes));
    return part;
  }

  cache_new(): number {
    return this.#exports.cache_new();
  }

  cache_clone(cache: number): number {
    return this.#exports.cache_clone(cache);
  }

  cache_truncate(cache: number, n_tokens: number): void {
    this.#exports.cache_truncate(cache, n_tokens);
  }

  cache_free(cache: number): void {
    this.#exports.cache_free(cache);
  }

  /** Begins a pass over `ids`; rows: 0 none, 1 last, 2 all. → whether there is enough memory */
  forward(cache: number, ids: Uint32Array, rows: number, with_attentions: boolean): boolean {
    new Uint32Array(this.memory.buffer, this.#exports.ids() >>> 0, ids.length).set(ids);
    return this.#exports.forward(cache, ids.length, rows, Number(with_attentions)) === 0;
  }

  /** Goes on with the pass, for some milliseconds if nothing else is said. → whether it is done */
  advance(budget_ms = BUDGET_MS): boolean {
    return this.#exports.advance(budget_ms) === 1;
  }

  /** Lets messages in while a pass is under way. → whether anybody still wants it */
  async pause(): Promise<boolean> {
    await breathe();
    return this.#isWanted();
  }

  /** → logits of the last pass */
  logits(): Float32Array {
    return new Float32Array(this.memory.buffer, this.#exports.logits() >>> 0, this.#exports.n_logits());
  }

  /** → attention weights of a block in the last pass */
  attentions(layer: number): Float32Array {
    return new Float32Array(this.memory.buffer, this.#exports.attentions(layer) >>> 0, this.#exports.n_attentions(layer));
  }

  /** Milliseconds that reading the whole image once takes: the floor of a token on one thread. */
  sweep(): number {
    const start_ms = performance.now();
    this.#exports.sweep();
    return performance.now() - start_ms;
  }

  /** Fills the image with weights of no model, to measure with. */
  fill(seed: number): void {
    this.#exports.fill(seed);
  }

  /** Milliseconds that each of {@link OPS} takes in the passes that `run` makes, on this thread, waiting for the others included. */
  profile(run: () => void): number[] {
    this.#exports.set_profile(1);
    run();
    this.#exports.set_profile(0);
    return [...new Float64Array(this.memory.buffer, this.#exports.op_ms() >>> 0, OPS.length)];
  }

  /** Uses so many threads from now on; `"auto"`: as many as make a token fastest, measured. → why it is fewer, if so */
  async useThreads(threads: number | "auto"): Promise<string | null> {
    if (threads === 1) return null;
    if (!this.#is_shared) {
      return threads === "auto" ? null : `threads: 1 instead of ${threads}, since this page is not cross-origin isolated`;
    }
    try {
      if (threads === "auto") await this.#findThreads();
      else await this.#setThreads(Math.min(threads, MAX_THREADS));
    } catch (error) {
      return `threads: ${this.threads}, since no more could be started (${(error as Error).message})`;
    }
    return this.threads === threads || threads === "auto" ? null : `threads: ${this.threads} instead of ${threads}, the most that help`;
  }

  async #findThreads(): Promise<void> {
    const most = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
    let best = { threads: 1, ms: this.#tokenMs() };
    for (let n = 2; n <= most; n *= 2) {
      await this.#setThreads(n);
      const ms = this.#tokenMs();
      // another thread has to be worth another core
      if (ms > 0.9 * best.ms) break;
      best = { threads: n, ms };
    }
    await this.#setThreads(best.threads);
  }

  /** How long a token takes: the best of a few, the first of which warm up. */
  #tokenMs(): number {
    const cache = this.cache_new();
    let best_ms = Infinity;
    for (let i = 0; i < 6; i++) {
      const start_ms = performance.now();
      this.forward(cache, Uint32Array.of(0), 1, false);
      this.advance(Infinity);
      best_ms = Math.min(best_ms, performance.now() - start_ms);
      this.cache_truncate(cache, 0);
    }
    this.cache_free(cache);
    return best_ms;
  }

  async #setThreads(threads: number): Promise<void> {
    while (this.#workers.length < threads - 1) {
      const worker = new Worker(new URL("./kernel-thread.js", import.meta.url), { type: "module", name: "gpt2-web kernels" });
      const index = this.#workers.push(worker);
      const message: ToThread = { module: this.#module, memory: this.memory, index, stack: this.#exports.member_stack() >>> 0, epoch: this.#exports.epoch() };
      await new Promise<void>((resolve, reject) => {
        worker.onmessage = () => resolve();
        worker.onerror = (event) => reject(new Error(`kernel thread ${index}: ${event.message}`));
        worker.postMessage(message);
      });
    }
    this.#exports.set_members(threads);
    this.threads = threads;
  }
}

/** What a module needs from here. */
export function imports(memory: WebAssembly.Memory): WebAssembly.Imports {
  const words = () => new Int32Array(memory.buffer);
  return {
    env: {
      memory,
      sleep: (word: number, expected: number) => void Atomics.wait(words(), word >>> 2, expected | 0),
      now: () => performance.now(),
      wake: (word: number) => void Atomics.notify(words(), word >>> 2),
    },
  };
}
