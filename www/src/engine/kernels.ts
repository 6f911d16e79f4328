/**
 * The CPU kernels: a small WebAssembly module of their own, whose memory holds the packed weights. Where the page is
 * cross-origin isolated, several threads share that memory. Rust calls this class (src/web). Runs in the worker.
 */

import { relaxedSimd } from "wasm-feature-detect";
import type { WorkerFile } from "../api/messages.js";
import { trustedScript } from "../api/trusted.js";
import { breathe } from "./breathe.js";
import { fetchModule } from "./fetch-module.js";
import { canHold, canShare, type KernelMemory, newMemory } from "./kernel-memory.js";
import { type FromThread, imports, type ToThread } from "./kernel-module.js";

/** What the module exports. */
interface Exports {
  create(...numbers: number[]): number;
  image(): number;
  plan(n: number): number;
  cache_new(): number;
  cache_clone(cache: number): number;
  cache_truncate(cache: number, nTokens: number): void;
  cache_free(cache: number): void;
  cache_bytes(cache: number): number;
  caches_bytes(): number;
  forward(nTexts: number, withAttentions: number): number;
  advance(budgetMs: number): number;
  logits(text: number): number;
  n_logits(text: number): number;
  attentions(layer: number): number;
  n_attentions(layer: number): number;
  sweep(): number;
  fill(seed: number): void;
  use_byte_dots(isWanted: number): number;
  set_profile(isOn: number): void;
  op_ms(): number;
  // These three only the modules with shared memory have.
  set_members(nMembers: number): void;
  member_stack(): number;
  epoch(): number;
}

/** A module that is running. */
interface Started extends KernelMemory {
  module: WebAssembly.Module;
  exports: Exports;
  /** Whether the memory can be shared with other threads. */
  isShared: boolean;
  /** Whether it has relaxed SIMD, with which a processor's instruction for products of bytes can be reached. */
  isRelaxed: boolean;
}

/** Where the package's files are, by name. */
type KernelFiles = Readonly<Record<WorkerFile, string>>;

/** The parts of a pass, as `Op` in the kernels' sources; each includes its LayerNorm and the packing of its input. */
export const OPS = ["embed", "qkv", "attention", "proj", "fc", "proj2", "head"] as const;

/**
 * How long a pass runs before it lets messages in. It first ends the part that is under way when the time is up; so a
 * cancel is heard within 50 ms.
 */
const BUDGET_MS = 30;
/** With more threads than this, they only wait for the same memory. */
const MAX_THREADS = 8;
/** How long a thread may take to start. Its script may come over a slow network; some never answer. */
const START_MS = 10_000;

/** The kernels, with at most one model. */
export class Kernels {
  /** How many threads run it, this one included. */
  threads = 1;
  /** Whether integer weights are multiplied as bytes: see {@link chooseProducts}. */
  byteProducts = false;
  #started: Started;
  #files: KernelFiles;
  #workers: Worker[] = [];
  /** Why no more threads can be started. */
  #refusal: string | null = null;
  #isWanted: () => boolean;

  private constructor(started: Started, files: KernelFiles, isWanted: () => boolean) {
    this.#started = started;
    this.#files = files;
    this.#isWanted = isWanted;
  }

  /**
   * Compiles and starts the module that this browser runs best, of those whose addresses are given. During each long
   * pass `isWanted` is asked whether to go on with it.
   */
  static async start(files: KernelFiles, signal: AbortSignal, isWanted: () => boolean): Promise<Kernels> {
    const shared = canShare() ? newMemory(true) : null;
    return new Kernels(await startModule(files, shared, signal), files, isWanted);
  }

  get memory(): WebAssembly.Memory {
    return this.#started.memory;
  }

  get #exports(): Exports {
    return this.#started.exports;
  }

  /**
   * Changes to a memory of this thread alone if the shared one that the browser has granted is too small for weights of
   * so many bytes. To be called before {@link create}.
   */
  async makeRoom(weightBytes: number, signal: AbortSignal): Promise<void> {
    if (!this.#started.isShared || canHold(this.#started, weightBytes)) return;
    this.#started = await startModule(this.#files, null, signal);
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

  /** Bytes of a cache's keys and values, of which it may share some with its copies. */
  cacheBytes(cache: number): number {
    return this.#exports.cache_bytes(cache) >>> 0;
  }

  /** Bytes of the keys and values of all caches. */
  cachesBytes(): number {
    return this.#exports.caches_bytes() >>> 0;
  }

  /**
   * Begins a pass over `ids`; `rows` says of which tokens it gives logits: 0 none, 1 the last, 2 all. Returns whether
   * there is enough memory.
   */
  forward(cache: number, ids: Uint32Array, rows: number, withAttentions: boolean): boolean {
    return this.forwardBatch(Uint32Array.of(cache, ids.length, rows, ...ids), 1, withAttentions);
  }

  /**
   * Begins a pass over the ids of several texts. The plan has three numbers for each text, its cache, how many ids it
   * has and the `rows` of {@link forward}, and then the ids of all. Only of a single text there are attention weights.
   */
  forwardBatch(plan: Uint32Array, nTexts: number, withAttentions: boolean): boolean {
    const at = this.#exports.plan(plan.length) >>> 0; // first, since the memory may grow
    new Uint32Array(this.memory.buffer, at, plan.length).set(plan);
    return this.#exports.forward(nTexts, Number(withAttentions)) === 0;
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

  /** Logits of a text in the last pass, [rows, vocabulary]: a view that the next call ends. */
  logits(text: number): Float32Array {
    return new Float32Array(this.memory.buffer, this.#exports.logits(text) >>> 0, this.#exports.n_logits(text));
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
   * Multiplies integer weights as bytes where the processor is faster so; which it is, two tokens at a time tell. Both
   * ways give the same bits. To be called when the image is whole and before {@link useThreads}.
   */
  chooseProducts(): void {
    if (!this.#started.isRelaxed || this.#exports.use_byte_dots(1) === 0) return;
    let [bytesMs, wordsMs] = [Infinity, Infinity];
    for (let i = 0; i < 2; i++) {
      // In turns, so that whatever else the machine does meets both.
      this.#exports.use_byte_dots(1);
      bytesMs = Math.min(bytesMs, this.#passMs(2, 2));
      this.#exports.use_byte_dots(0);
      wordsMs = Math.min(wordsMs, this.#passMs(2, 2));
    }
    this.byteProducts = bytesMs < wordsMs && this.#exports.use_byte_dots(1) === 1;
  }

  /**
   * Uses so many threads from now on; for `"auto"`, measures how many make a token fastest. Returns why there are fewer
   * than asked for, `null` if there are not.
   */
  async useThreads(threads: number | "auto"): Promise<string | null> {
    if (threads === 1) return null;
    if (!this.#started.isShared) {
      if (canShare()) return "threads: 1, since this browser gives too little shared memory";
      if (globalThis.crossOriginIsolated) return "threads: 1, since this browser has no `SharedArrayBuffer`";
      return threads === "auto"
        ? null
        : `threads: 1 instead of ${threads}, since this page is not cross-origin isolated`;
    }
    if (threads === "auto") await this.#findThreads();
    else await this.#setThreads(Math.min(threads, MAX_THREADS));
    if (this.#refusal !== null) return `threads: ${this.threads}, since no more could be started (${this.#refusal})`;
    return this.threads === threads || threads === "auto"
      ? null
      : `threads: ${this.threads} instead of ${threads}, the most that help`;
  }

  async #findThreads(): Promise<void> {
    const most = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
    let best = { threads: 1, ms: this.#passMs(1, 6) };
    for (let n = 2; n <= most; n *= 2) {
      await this.#setThreads(n);
      const ms = this.#passMs(1, 6);
      // More threads must be a clear gain, since they take cores from the rest of the machine.
      if (ms > 0.9 * best.ms) break;
      best = { threads: this.threads, ms };
      if (this.threads < n) break;
    }
    await this.#setThreads(best.threads);
  }

  /** How long a pass of so many tokens takes: the best of several, since the first are slower. */
  #passMs(nTokens: number, nPasses: number): number {
    const cache = this.cacheNew();
    const ids = new Uint32Array(nTokens);
    let bestMs = Infinity;
    for (let i = 0; i < nPasses; i++) {
      const startMs = performance.now();
      this.forward(cache, ids, 1, false);
      this.advance(Infinity);
      bestMs = Math.min(bestMs, performance.now() - startMs);
      this.cacheTruncate(cache, 0);
    }
    this.cacheFree(cache);
    return bestMs;
  }

  /** Uses so many threads, or as many as can be started. */
  async #setThreads(threads: number): Promise<void> {
    while (this.#refusal === null && this.#workers.length < threads - 1) {
      try {
        this.#workers.push(await this.#startThread(this.#workers.length + 1));
      } catch (error) {
        // No other thread takes its place, since a worker that is being ended may still begin.
        this.#refusal = (error as Error).message;
      }
    }
    this.threads = Math.min(threads, this.#workers.length + 1);
    this.#exports.set_members(this.threads);
  }

  /** Starts a thread and waits until it is ready. Throws if it does not start, and ends it then. */
  async #startThread(index: number): Promise<Worker> {
    const { module, memory, exports } = this.#started;
    const script = trustedScript(this.#files["kernel-thread.js"]);
    const worker = new Worker(script, { type: "module", name: "gpt2-web kernels" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (why: string) => reject(new Error(`kernel thread ${index}: ${why}`));
        worker.onmessage = ({ data }: MessageEvent<FromThread>) =>
          data.kind === "ready" ? resolve() : fail(data.message);
        worker.onmessageerror = () => fail("its memory or module could not be passed on");
        worker.onerror = (event) => fail(event.message || "its script could not be loaded");
        timer = setTimeout(() => fail(`no answer within ${START_MS / 1000} s`), START_MS);
        const stack = exports.member_stack() >>> 0;
        const message: ToThread = { module, memory, index, stack, epoch: exports.epoch() };
        worker.postMessage(message); // throws where a browser cannot pass modules or shared memory on
      });
    } catch (error) {
      worker.terminate();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return worker;
  }
}

/** Compiles and starts a module, for several threads if there is a shared memory. */
async function startModule(files: KernelFiles, shared: KernelMemory | null, signal: AbortSignal): Promise<Started> {
  const isRelaxed = await relaxedSimd();
  const name = `kernels${isRelaxed ? "-relaxed" : ""}${shared ? "-threads" : ""}.wasm` as const;
  const response = await fetchModule(name, files[name], signal);
  const module = await WebAssembly.compile(await response.arrayBuffer());
  const { memory, maxBytes } = shared ?? (newMemory(false) as KernelMemory);
  const { exports } = await WebAssembly.instantiate(module, imports(memory));
  return { module, memory, maxBytes, exports: exports as unknown as Exports, isShared: shared !== null, isRelaxed };
}
