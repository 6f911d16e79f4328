/** From a model's files to a model in memory, each byte passing through once. Runs in the worker. */

import { abortError, makeError } from "./errors.js";
import { openHub, readBytes, readText, type Hub, type OpenFile } from "./hub.js";
import type { Fetch } from "./http.js";
import type { Answers, WireLoadOptions, WireModel } from "./messages.js";
import { Progress } from "./progress.js";
import { release } from "./release.js";
import { cacheKey } from "./source.js";
import type { ProgressEvent } from "./types.js";
import { Kernels } from "./kernels.js";
import init, { forgetGpu, Loader, packedName, shardNames, type Model } from "../wasm/gpt2_web.js";

/** A model that is ready. */
export interface Loaded {
  model: Model;
  info: Answers["load"];
  /** Size of the WebAssembly memory. */
  bytes_held(): number;
}

/**
 * Loads a model. `isWanted` is asked, ever after, in the midst of whatever the model computes: whether to go on.
 *
 * Of several tabs that load the same one, one downloads it and the others wait for its cache.
 */
export async function load(
  source: WireModel,
  options: WireLoadOptions,
  fetch: Fetch,
  signal: AbortSignal,
  emit: (event: ProgressEvent) => void,
  isWanted: () => boolean,
): Promise<Loaded> {
  const warnings: string[] = [];
  const hub = openHub(source, { ...options, fetch, signal, warn: (message) => warnings.push(message) });
  const run = async () => {
    try {
      return await loadAlone(source, options, hub, warnings, signal, emit, isWanted);
    } catch (error) {
      const { code, file } = error as { code?: string; file?: string };
      if (code === "checkpoint" && file) await hub.drop(file);
      throw error;
    } finally {
      await hub.close();
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
export async function reload(
  lost: Loaded,
  reason: Error,
  source: WireModel,
  options: WireLoadOptions,
  fetch: Fetch,
  signal: AbortSignal,
  isWanted: () => boolean,
): Promise<Loaded> {
  const again = (device: string) => load(source, { ...options, device, dtype: lost.info.dtype }, fetch, signal, () => undefined, isWanted);
  forgetGpu();
  const loaded = await again(options.device).catch((error: unknown) => {
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

async function loadAlone(
  source: WireModel,
  options: WireLoadOptions,
  hub: Hub,
  warnings: string[],
  signal: AbortSignal,
  emit: (event: ProgressEvent) => void,
  isWanted: () => boolean,
): Promise<Loaded> {
  const progress = new Progress(source.name, emit);
  const checkAbort = () => {
    if (signal.aborted) throw abortError();
  };
  progress.start();

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
  try {
    loadTokenizer(loader, await tokenizer);
    checkAbort();
    progress.phase("self-test");
    const adapter = options.device === "wasm" ? undefined : await describeAdapter();
    const name = packedName(await loader.openDevice(options.device, options.dtype, adapter, kernels));
    checkAbort();
    const write = loader.device === "wasm" ? kernels.write.bind(kernels) : loader.writePacked.bind(loader);
    const files = await loadWeights(loader, name, write, hub, progress);
    const n_bytes = loader.packedBytes();
    if (files.length > 0) keep = (model) => hub.keepPacked(name, n_bytes, pieces(model, n_bytes), files);
  } catch (error) {
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
): Promise<string[]> {
  const n_bytes = loader.packedBytes();
  const kept = await hub.openPacked(name);
  if (kept?.bytes !== n_bytes) return loadCheckpoint(loader, hub, progress);
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

/** Writes the checkpoint's weights to the loader. → names of their files */
async function loadCheckpoint(loader: Loader, hub: Hub, progress: Progress): Promise<string[]> {
  const single = await open(hub, "model.safetensors", progress);
  if (single) {
    await write(loader, "model.safetensors", single, progress);
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
    await write(loader, shard, file, progress);
  }
  return ["model.safetensors.index.json", ...shards];
}

async function write(loader: Loader, name: string, file: OpenFile, progress: Progress): Promise<void> {
  loader.beginFile(name, file.bytes ?? undefined);
  for await (const chunk of file.chunks) {
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
