/**
 * The CPU kernels: a small WebAssembly module of their own, whose memory holds the packed weights. Where the page is
 * cross-origin isolated, several threads share that memory. Rust calls this class (src/web). Runs in the worker.
 */

import { relaxedSimd } from "wasm-feature-detect";
import type { WorkerFile } from "../api/messages.js";
import { trustedScript } from "../api/trusted.js";
import { breathe } from "./breathe.js";
import { fetchModule } from "./fetch-module.js";
import { imports, type ToThread } from "./kernel-module.js";

/** What the module exports. */
interface Exports {
  create(...numbers: number[]): number;
  image(): number;
  ids(): number;
  cache_new(): number;
  cache_clone(cache: number): number;
  cache_truncate(cache: number, nTokens: number): void;
  cache_free(cache: number): void;
  forward(cache: number, nIds: number, rows: number, withAttentions: number): number;
  advance(budgetMs: number): number;
  logits(): number;
  n_logits(): number;
  attentions(layer: number): number;
  n_attentions(layer: number): number;
  sweep(): number;
  fill(seed: number): void;
  set_profile(isOn: number): void;
  op_ms(): number;
  // These three only the modules with shared memory have.
  set_members(nMembers: number): void;
  member_stack(): number;
  epoch(): number;
}

/** A module that is running. */
interface Started {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  exports: Exports;
  /** Whether the memory can be shared with other threads. */
  isShared: boolean;
  /** Address of the script that a thread is started from. */
  threadScript: string;
}

/** The parts of a pass, as `Op` in the kernels' sources; each includes its LayerNorm and the packing of its input. */
export const OPS = ["embed", "qkv", "attention", "proj", "fc", "proj2", "head"] as const;

/**
 * How long a pass runs before it lets messages in. It first ends the part that is under way when the time is up; so a
 * cancel is heard within 50 ms.
 */
const BUDGET_MS = 30;
/** 4 GiB, all that 32 bits can address. */
const MAX_PAGES = 65536;
/** With more threads than this, they only wait for the same memory. */
const MAX_THREADS = 8;

/** The kernels, with at most one model. */
export class Kernels {
  /** How many threads run it, this one included. */
  threads = 1;
  readonly memory: WebAssembly.Memory;
  #exports: Exports;
  #module: WebAssembly.Module;
  #workers: Worker[] = [];
  #isShared: boolean;
  #threadScript: string;
  #isWanted: () => boolean;

  private constructor({ module, memory, exports, isShared, threadScript }: Started, isWanted: () => boolean) {
    this.#module = module;
    this.memory = memory;
    this.#exports = exports;
    this.#isShared = isShared;
    this.#threadScript = threadScript;
    this.#isWanted = isWanted;
  }

  /**
   * Compiles and starts the module that this browser runs best, of those whose addresses are given. During each long
   * pass `isWanted` is asked whether to go on with it.
   */
  static async start(
    files: Readonly<Record<WorkerFile, string>>,
    signal: AbortSignal,
    isWanted: () => boolean,
  ): Promise<Kernels> {
    const isShared = globalThis.crossOriginIsolated === true;
    const name = `kernels${(await relaxedSimd()) ? "-relaxed" : ""}${isShared ? "-threads" : ""}.wasm` as const;
    const response = await fetchModule(name, files[name], signal);
    const module = await WebAssembly.compile(await response.arrayBuffer());
    const memory = new WebAssembly.Memory({ initial: 32, maximum: MAX_PAGES, shared: isShared });
    const { exports } = await WebAssembly.instantiate(module, imports(memory));
    const threadScript = files["kernel-thread.js"];
    return new Kernels({ module, memory, exports: exports as unknown as Exports, isShared, threadScript }, isWanted);
  }

  /** Makes room for a model. Returns the bytes of its image, 0 if there is not so much memory. */
  create(dims: Float64Array, dtype: number): number {
    return this.#exports.create(...dims, dtype) >>> 0;
  }

  /** Writes to the image. */
  write(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.memory.buffer, (this.#exports.image() >>> 0) + offset, bytes.byteLength).set(bytes);
  }

  /** A copy of a part of the image. */
  read(offset: number, nBytes: number): Uint8Array<ArrayBuffer> {
    const part = new Uint8Array(nBytes);
    part.set(new Uint8Array(this.memory.buffer, (this.#exports.image() >>> 0) + offset, nBytes));
    return part;
  }

  cacheNew(): number {
    return this.#exports.cache_new();
  }

  cacheClone(cache: number): number {
    return this.#exports.cache_clone(cache);
  }

  cacheTruncate(cache: number, nTokens: number): void {
    this.#exports.cache_truncate(cache, nTokens);
  }

  cacheFree(cache: number): void {
    this.#exports.cache_free(cache);
  }

  /**
   * Begins a pass over `ids`; `rows` says of which tokens it gives logits: 0 none, 1 the last, 2 all. Returns whether
   * there is enough memory.
   */
  forward(cache: number, ids: Uint32Array, rows: number, withAttentions: boolean): boolean {
    new Uint32Array(this.memory.buffer, this.#exports.ids() >>> 0, ids.length).set(ids);
    return this.#exports.forward(cache, ids.length, rows, Number(withAttentions)) === 0;
  }

  /** Goes on with the pass for `budgetMs`. Returns whether it is done. */
  advance(budgetMs = BUDGET_MS): boolean {
    return this.#exports.advance(budgetMs) === 1;
  }

  /** Lets messages in while a pass is under way. Returns whether the pass is still wanted. */
  async pause(): Promise<boolean> {
    await breathe();
    return this.#isWanted();
  }

  /** Logits of the last pass, [rows, vocabulary]: a view that the next call ends. */
  logits(): Float32Array {
    return new Float32Array(this.memory.buffer, this.#exports.logits() >>> 0, this.#exports.n_logits());
  }

  /** Attention weights of a block in the last pass: a view that the next call ends. */
  attentions(layer: number): Float32Array {
    return new Float32Array(
      this.memory.buffer,
      this.#exports.attentions(layer) >>> 0,
      this.#exports.n_attentions(layer),
    );
  }

  /** Milliseconds that reading the whole image once takes. A token on one thread cannot take less. */
  sweep(): number {
    const startMs = performance.now();
    this.#exports.sweep();
    return performance.now() - startMs;
  }

  /** Fills the image with made-up weights, for measurements. */
  fill(seed: number): void {
    this.#exports.fill(seed);
  }

  /**
   * Milliseconds that each of {@link OPS} takes in the passes that `run` makes. They are measured on this thread and
   * include its waiting for the others.
   */
  profile(run: () => void): Record<string, number> {
    this.#exports.set_profile(1);
    run();
    this.#exports.set_profile(0);
    const opMs = new Float64Array(this.memory.buffer, this.#exports.op_ms() >>> 0, OPS.length);
    return Object.fromEntries(OPS.map((op, i) => [op, opMs[i] ?? 0]));
  }

  /**
   * Uses so many threads from now on; for `"auto"`, measures how many make a token fastest. Returns why there are fewer
   * than asked for, `null` if there are not.
   */
  async useThreads(threads: number | "auto"): Promise<string | null> {
    if (threads === 1) return null;
    if (!this.#isShared) {
      return threads === "auto"
        ? null
        : `threads: 1 instead of ${threads}, since this page is not cross-origin isolated`;
    }
    try {
      if (threads === "auto") await this.#findThreads();
      else await this.#setThreads(Math.min(threads, MAX_THREADS));
    } catch (error) {
      return `threads: ${this.threads}, since no more could be started (${(error as Error).message})`;
    }
    return this.threads === threads || threads === "auto"
      ? null
      : `threads: ${this.threads} instead of ${threads}, the most that help`;
  }

  async #findThreads(): Promise<void> {
    const most = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
    let best = { threads: 1, ms: this.#tokenMs() };
    for (let n = 2; n <= most; n *= 2) {
      await this.#setThreads(n);
      const ms = this.#tokenMs();
      // More threads must be a clear gain, since they take cores from the rest of the machine.
      if (ms > 0.9 * best.ms) break;
      best = { threads: n, ms };
    }
    await this.#setThreads(best.threads);
  }

  /** How long a token takes: the best of several, since the first are slower. */
  #tokenMs(): number {
    const cache = this.cacheNew();
    let bestMs = Infinity;
    for (let i = 0; i < 6; i++) {
      const startMs = performance.now();
      this.forward(cache, Uint32Array.of(0), 1, false);
      this.advance(Infinity);
      bestMs = Math.min(bestMs, performance.now() - startMs);
      this.cacheTruncate(cache, 0);
    }
    this.cacheFree(cache);
    return bestMs;
  }

  async #setThreads(threads: number): Promise<void> {
    while (this.#workers.length < threads - 1) {
      const worker = new Worker(trustedScript(this.#threadScript), { type: "module", name: "gpt2-web kernels" });
      const index = this.#workers.push(worker);
      const message: ToThread = {
        module: this.#module,
        memory: this.memory,
        index,
        stack: this.#exports.member_stack() >>> 0,
        epoch: this.#exports.epoch(),
      };
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
