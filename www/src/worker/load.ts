/** From a model's files to a model in memory, each byte passing through once. Runs in the worker. */

import { abortError, makeError } from "../api/errors.js";
import { askForFeatures, giveUpFeatures } from "../engine/gpu-features.js";
import { openHub, readBytes, readText, type Hub, type OpenFile } from "../files/hub.js";
import type { Fetch } from "../files/http.js";
import type { Answers, WireLoadOptions, WireModel } from "../api/messages.js";
import { Progress } from "./progress.js";
import { release } from "../files/release.js";
import { cacheKey } from "../files/source.js";
import { findTuning, keepTuning } from "../files/store.js";
import type { ProgressEvent } from "../api/types.js";
import { Kernels } from "../engine/kernels.js";
import init, { destroyGpu, Loader, packedName, shardNames, type Compiling, type Model } from "../../wasm/gpt2_web.js";

/** A model that is ready. */
export interface Loaded {
  model: Model;
  info: Answers["load"];
  /** Size of the WebAssembly memory. */
  bytes_held(): number;
}

/** What is to be loaded, and who is told. */
export interface LoadRequest {
  source: WireModel;
  options: WireLoadOptions;
  fetch: Fetch;
  signal: AbortSignal;
  emit: (event: ProgressEvent) => void;
  /** Asked, ever after, in the midst of whatever the model computes: whether to go on. */
  isWanted: () => boolean;
}

/** Loads a model. Of several tabs that load the same one, one downloads it and the others wait for its cache. */
export async function load(request: LoadRequest): Promise<Loaded> {
  const { source, options, fetch, signal, emit } = request;
  const progress = new Progress(source.name, emit);
  progress.start();
  const on = async (device: string) => {
    const warnings: string[] = [];
    const hub = openHub(source, { ...options, fetch, signal, warn: (message) => warnings.push(message) });
    try {
      return await loadAlone({ ...request, options: { ...options, device } }, hub, warnings, progress);
    } catch (error) {
      const { code, file } = error as { code?: string; file?: string };
      if (code === "checkpoint" && file) await hub.drop(file);
      throw error;
    } finally {
      await hub.close();
    }
  };
  const run = async () => {
    try {
      return await on(options.device);
    } catch (error) {
      // a GPU shows what it is worth while the weights arrive already; what has come is kept, if it may be
      let reason = error as Error & { code?: string };
      const has_failed = () => GPU_FAILURES.has(reason.code ?? "");
      if (has_failed() && giveUpFeatures()) {
        destroyGpu();
        const again = await on(options.device).catch((error: unknown) => void (reason = error as typeof reason));
        if (again) return again;
      }
      if (options.device !== "auto" || !has_failed()) throw reason;
      const loaded = await on("wasm");
      loaded.info.fallback_reason = reason.message;
      return loaded;
    }
  };
  // pages that are not served securely have no locks, and opaque origins may not ask for one; there the store notices
  // a second writer
  const has_locks = await navigator.locks?.query().then(() => true, () => false);
  if (source.kind !== "url" || !options.cache || !has_locks) return run();
  return navigator.locks.request(`gpt2-web ${cacheKey(source)}`, { signal }, run) as Promise<Loaded>;
}

/**
 * Loads a model again whose GPU is lost: in the same format, on a GPU if there is still one, else on the CPU. The texts
 * are for the caller to take over.
 */
export async function reload(lost: Loaded, reason: Error, request: LoadRequest): Promise<Loaded> {
  const again = (device: string) => load({ ...request, options: { ...request.options, device, dtype: lost.info.dtype }, emit: () => undefined });
  destroyGpu();
  const loaded = await again(request.options.device).catch((error: unknown) => {
    const { code } = error as { code?: string };
    if (code !== "webgpu_not_available" && code !== "device_lost") throw error;
    return again("wasm");
  });
  const { device, fallback_reason } = loaded.info;
  const told = `the GPU was lost (${reason.message}); the model is loaded again, on ${device}`;
  loaded.info = {
    ...loaded.info,
    fallback_reason: device === "webgpu" ? null : `the GPU was lost (${reason.message})${fallback_reason === null ? "" : `; ${fallback_reason}`}`,
    warnings: [...new Set([...lost.info.warnings, ...loaded.info.warnings]), told],
  };
  return loaded;
}

/** Codes of errors after which another device is tried: the GPU without what not all have, then, for `auto`, the CPU. */
const GPU_FAILURES: ReadonlySet<string> = new Set(["webgpu_not_available", "device_lost", "invalid_logits"]);

async function loadAlone(request: LoadRequest, hub: Hub, warnings: string[], progress: Progress): Promise<Loaded> {
  const { options, signal, isWanted } = request;
  const checkAbort = () => {
    if (signal.aborted) throw abortError();
  };
  progress.phase("compile");
  const modules = Promise.all([startWasm(options.wasm_url), Kernels.start(moduleFolder(options.wasm_url), signal, isWanted)]);
  // the small files are read meanwhile; what is wrong with them is told when their turn comes
  const configs = readConfigs(hub, progress);
  const tokenizer = configs.then(() => readTokenizer(hub, progress));
  await Promise.allSettled([modules, tokenizer]);
  const [{ memory }, kernels] = await modules;
  checkAbort();

  const loader = new Loader(...(await configs));
  /** Keeps the packed weights for the next visit, once they have proved whole. */
  let keep = async (_: Model) => {};
  let gpu: Preparation | undefined;
  try {
    loadTokenizer(loader, await tokenizer);
    checkAbort();
    progress.phase("self-test");
    const adapter = options.device === "wasm" ? undefined : await describeAdapter();
    if (adapter !== undefined) askForFeatures();
    const name = packedName(await loader.openDevice(options.device, options.dtype, adapter, kernels));
    checkAbort();
    const tuning_key = options.cache ? loader.tuningKey() : undefined;
    const compiling = loader.compiling(tuning_key && (await findTuning(tuning_key).catch(() => undefined)));
    if (compiling) gpu = new Preparation(compiling, progress, checkAbort);
    const copy = loader.device === "wasm" ? kernels.write.bind(kernels) : loader.writePacked.bind(loader);
    const write = (offset: number, bytes: Uint8Array) => {
      gpu?.check();
      copy(offset, bytes);
    };
    const files = await loadWeights(loader, name, write, hub, progress, () => gpu?.check());
    const tuning = await gpu?.done();
    if (tuning_key && tuning) await keepTuning(tuning_key, tuning).catch((error: Error) => warnings.push(`the GPU's tuning was not kept: ${error.message}`));
    checkAbort();
    const n_bytes = loader.packedBytes();
    if (files.length > 0) keep = (model) => hub.keepPacked(name, n_bytes, pieces(model, n_bytes), files);
  } catch (error) {
    gpu?.stop();
    loader.free();
    throw error;
  }
  const model = await loader.finish(); // takes the loader
  try {
    await keep(model);
    checkAbort();
    await hub.complete();
    const refused = await kernels.useThreads(options.threads);
    if (refused !== null) warnings.push(refused);
  } catch (error) {
    model.free();
    throw error;
  }
  const info = model.info() as Omit<Answers["load"], "warnings">;
  progress.finish();
  return {
    model,
    info: { ...info, warnings },
    bytes_held: () => memory.buffer.byteLength + kernels.memory.buffer.byteLength,
  };
}

/** The GPU being made ready, beside the download: it is measured, its pipelines are compiled, and it is tested. */
class Preparation {
  #running: Promise<void>;
  #tuning: string | undefined;
  #failure: { error: unknown } | undefined;
  #is_stopped = false;
  #is_awaited = false;

  constructor(compiling: Compiling, progress: Progress, checkAbort: () => void) {
    const run = async () => {
      let total = 0;
      let n_done = 0;
      for (let step = await compiling.next(); step !== undefined && !this.#is_stopped; step = await compiling.next()) {
        checkAbort();
        if (step === "tune") [total, this.#tuning] = [compiling.left, compiling.tuning];
        else if (step === "compile") n_done += 1;
        if (step === "self-test") progress.phase(step);
        else progress.compiled(n_done, total);
        // the download is through, so this is what the load as a whole is at
        if (this.#is_awaited) progress.phase("compile");
      }
    };
    this.#running = run()
      .catch((error: unknown) => void (this.#failure = { error }))
      .finally(() => compiling.free());
  }

  /** Throws what has gone wrong, so that nobody downloads on for a GPU that is of no use. */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /** Gives up after the step under way. */
  stop(): void {
    this.#is_stopped = true;
  }

  /** Waits for the end. → what was measured, to be remembered */
  async done(): Promise<string | undefined> {
    this.#is_awaited = true;
    await this.#running;
    this.check();
    return this.#tuning;
  }
}

/** Compiles and starts the WebAssembly module; the second time it is there already. */
export function startWasm(url: string | null): ReturnType<typeof init> {
  return init({ module_or_path: url ?? new URL("./gpt2_web_bg.wasm", import.meta.url) });
}

/** The texts of `config.json` and, if there is one, of `generation_config.json`. */
async function readConfigs(hub: Hub, progress: Progress): Promise<[string, string | undefined]> {
  const config = await whole(hub, "config.json", progress);
  if (!config) throw missing("config.json", "the model's configuration");
  const text = await readText(config);
  const generation_config = await whole(hub, "generation_config.json", progress);
  return [text, generation_config ? await readText(generation_config) : undefined];
}

/** The bytes of `tokenizer.json`, or the texts of `vocab.json` and `merges.txt`. */
async function readTokenizer(hub: Hub, progress: Progress): Promise<Uint8Array | [string, string]> {
  const tokenizer = await whole(hub, "tokenizer.json", progress);
  if (tokenizer) return readBytes(tokenizer);
  const [vocab, merges] = [await whole(hub, "vocab.json", progress), await whole(hub, "merges.txt", progress)];
  if (!vocab) throw missing("tokenizer.json", "this file, or vocab.json and merges.txt");
  if (!merges) throw missing("merges.txt", "this file beside vocab.json, or tokenizer.json");
  return [await readText(vocab), await readText(merges)];
}

function loadTokenizer(loader: Loader, files: Uint8Array | [string, string]): void {
  if (!(files instanceof Uint8Array)) return loader.vocabAndMerges(...files);
  loader.tokenizerJson(files);
  release(files);
}

/** Where the modules lie. */
function moduleFolder(wasm_url: string | null): URL {
  return new URL(".", wasm_url ?? import.meta.url);
}

/** Bytes of packed weights that are moved at once. */
const PIECE_BYTES = 4 << 20;

/** The packed weights, piece by piece. */
async function* pieces(model: Model, n_bytes: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < n_bytes; offset += PIECE_BYTES) {
    const piece = await model.readPacked(offset, Math.min(PIECE_BYTES, n_bytes - offset));
    yield piece;
    release(piece);
  }
}

/**
 * Fills the engine's memory: with what an earlier visit packed, or from the checkpoint, packed as it arrives.
 * → names of the checkpoint's files, if it was they
 */
async function loadWeights(
  loader: Loader,
  name: string,
  write: (offset: number, bytes: Uint8Array) => void,
  hub: Hub,
  progress: Progress,
  check: () => void,
): Promise<string[]> {
  const n_bytes = loader.packedBytes();
  const kept = await hub.openPacked(name);
  if (kept?.bytes !== n_bytes) return loadCheckpoint(loader, hub, progress, check);
  progress.initiate(name);
  progress.open(name, n_bytes);
  let offset = 0;
  for await (const chunk of kept.chunks) {
    if (offset + chunk.byteLength <= n_bytes) write(offset, chunk);
    offset += chunk.byteLength;
    progress.advance(name, chunk.byteLength);
  }
  if (offset !== n_bytes) {
    await hub.drop(name);
    throw makeError("integrity", `${name}: expected ${n_bytes} bytes in the cache, found ${offset}; a retry fetches the model again`, { file: name });
  }
  progress.close(name);
  return [];
}

/** Writes the checkpoint's weights to the loader; `check` throws if they are of no use any more. → names of their files */
async function loadCheckpoint(loader: Loader, hub: Hub, progress: Progress, check: () => void): Promise<string[]> {
  const single = await open(hub, "model.safetensors", progress);
  if (single) {
    await write(loader, "model.safetensors", single, progress, check);
    return ["model.safetensors"];
  }
  const index = await whole(hub, "model.safetensors.index.json", progress);
  if (!index) throw missing("model.safetensors", "this file, or model.safetensors.index.json and its shards");
  const json = await readText(index);
  const shards = shardNames(json);
  const { metadata } = JSON.parse(json) as { metadata?: { total_size?: unknown } };
  const total_size = typeof metadata?.total_size === "number" ? metadata.total_size : null;
  if (total_size !== null) progress.expect(total_size);
  hub.prefetch(shards, total_size);
  for (const shard of shards) {
    const file = await open(hub, shard, progress);
    if (!file) throw missing(shard, "the shard that model.safetensors.index.json names");
    await write(loader, shard, file, progress, check);
  }
  return ["model.safetensors.index.json", ...shards];
}

async function write(loader: Loader, name: string, file: OpenFile, progress: Progress, check: () => void): Promise<void> {
  loader.beginFile(name, file.bytes ?? undefined);
  for await (const chunk of file.chunks) {
    check();
    loader.write(chunk);
    progress.advance(name, chunk.byteLength);
  }
  progress.close(name);
}

async function open(hub: Hub, name: string, progress: Progress): Promise<OpenFile | null> {
  progress.initiate(name);
  const file = await hub.open(name);
  if (file) progress.open(name, file.bytes ?? 0);
  return file;
}

/** Opens a small file so that reading it counts as progress. */
async function whole(hub: Hub, name: string, progress: Progress): Promise<OpenFile | null> {
  const file = await open(hub, name, progress);
  if (!file) return null;
  async function* counted(chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      progress.advance(name, chunk.byteLength);
      yield chunk;
    }
    progress.close(name);
  }
  return { ...file, chunks: counted(file.chunks) };
}

/** A file that a checkpoint must have. */
export function missing(file: string, expected: string): Error {
  return makeError("checkpoint", `${file}: expected ${expected}, found no such file`, { file, expected, found: "no such file" });
}

interface MaybeFallback {
  isFallbackAdapter?: boolean;
}

/** What the browser tells of its GPU, if it offers one; the choice itself is made in Rust. */
export async function describeAdapter(): Promise<string | undefined> {
  if (!("gpu" in navigator)) return undefined;
  // a browser that lists WebGPU may still fail to start it: that is the same as none
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return undefined;
  // older browsers have no `info`, or say on the adapter itself that it is a fallback
  const info = adapter.info as (Partial<GPUAdapterInfo> & MaybeFallback) | undefined;
  const { vendor = "", architecture = "", device = "", description = "" } = info ?? {};
  const is_fallback = info?.isFallbackAdapter ?? (adapter as MaybeFallback).isFallbackAdapter ?? false;
  return JSON.stringify({ vendor, architecture, device, description, is_fallback });
}
