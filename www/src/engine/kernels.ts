/**
 * The CPU kernels: a small WebAssembly module of their own, whose memory holds the packed weights. Where the page is
 * cross-origin isolated, several threads share that memory. Rust calls this class (src/web). Runs in the worker.
 */

import { breathe } from "./breathe.js";
import { canHold, canShare, newMemory } from "./kernel-memory.js";
import { type Exports, type KernelFiles, type Started, startModule } from "./kernel-start.js";
import { KernelTeam } from "./kernel-team.js";

/** The parts of a pass, as `Op` in the kernels' sources; each includes its LayerNorm and the packing of its input. */
export const OPS = ["embed", "qkv", "attention", "proj", "fc", "proj2", "head"] as const;

/**
 * How long a pass runs before it lets messages in. It first ends the part that is under way when the time is up; so a
 * cancel is heard within 50 ms.
 */
const BUDGET_MS = 30;
/** With more threads than this, they only wait for the same memory. */
const MAX_THREADS = 8;
/** The kernels, with at most one model. */
export class Kernels {
  /** Whether integer weights are multiplied as bytes: see {@link chooseProducts}. */
  byteProducts = false;
  #started: Started;
  #files: KernelFiles;
  #team: KernelTeam;
  #isWanted: () => boolean;

  private constructor(started: Started, files: KernelFiles, isWanted: () => boolean) {
    this.#started = started;
    this.#files = files;
    this.#team = new KernelTeam(started, files);
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

  /** How many threads run it, this one included. */
  get threads(): number {
    return this.#team.size;
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
    this.#team = new KernelTeam(this.#started, this.#files);
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

  /** Begins an adapter under a number that none has had. */
  adapterNew(number: number): void {
    this.#exports.adapter_new(number);
  }

  /**
   * Adds `scale` · B A to a matrix. `place` is the block, the part of it (see {@link OPS}) and the rank; `numbers` are
   * A [rank, inputs] and then B [outputs, rank]. Returns whether there is enough memory.
   */
  adapterAdd(adapter: number, place: Uint32Array, numbers: Float32Array, scale: number): boolean {
    const at = this.#exports.adapter_numbers(numbers.length) >>> 0;
    if (at === 0) return false;
    new Float32Array(this.memory.buffer, at, numbers.length).set(numbers);
    const [layer = 0, op = 0, rank = 1] = place;
    this.#exports.adapter_add(adapter, layer, op, rank, scale);
    return true;
  }

  /** Gives an adapter up; caches that were made with it keep it. */
  adapterFree(adapter: number): void {
    this.#exports.adapter_free(adapter);
  }

  /** A cache for a text that is computed with an adapter, or with none (-1). */
  cacheNew(adapter = -1): number {
    return this.#exports.cache_new(adapter);
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
    else await this.#team.resize(Math.min(threads, MAX_THREADS));
    const { refusal } = this.#team;
    if (refusal !== null) return `threads: ${this.threads}, since no more could be started (${refusal})`;
    return this.threads === threads || threads === "auto"
      ? null
      : `threads: ${this.threads} instead of ${threads}, the most that help`;
  }

  async #findThreads(): Promise<void> {
    const most = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
    let best = { threads: 1, ms: this.#passMs(1, 6) };
    for (let n = 2; n <= most; n *= 2) {
      await this.#team.resize(n);
      const ms = this.#passMs(1, 6);
      // More threads must be a clear gain, since they take cores from the rest of the machine.
      if (ms > 0.9 * best.ms) break;
      best = { threads: this.threads, ms };
      if (this.threads < n) break;
    }
    await this.#team.resize(best.threads);
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
}
