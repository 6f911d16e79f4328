/** From a model's files to a model in memory, each byte passing through once. Runs in the worker. */

import { abortError, makeError } from "./errors.js";
import { countDispatches } from "./dispatches.js";
import { openHub, readBytes, readText, type Hub, type OpenFile } from "./hub.js";
import type { Fetch } from "./http.js";
import type { Answers, WireLoadOptions, WireModel } from "./messages.js";
import { Progress } from "./progress.js";
import { cacheKey } from "./source.js";
import type { ProgressEvent } from "./types.js";
import init, { Loader, shardNames, type Model } from "../wasm/gpt2_web.js";

/** A model that is ready. */
export interface Loaded {
  model: Model;
  info: Answers["load"];
  /** Size of the WebAssembly memory. */
  bytes_held(): number;
  is_gpu: boolean;
}

/** Loads a model. Of several tabs that load the same one, one downloads it and the others wait for its cache. */
export async function load(
  source: WireModel,
  options: WireLoadOptions,
  fetch: Fetch,
  signal: AbortSignal,
  emit: (event: ProgressEvent) => void,
): Promise<Loaded> {
  const warnings: string[] = [];
  const hub = openHub(source, { ...options, fetch, signal, warn: (message) => warnings.push(message) });
  const run = async () => {
    try {
      return await loadAlone(source, options, hub, warnings, signal, emit);
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

async function loadAlone(
  source: WireModel,
  options: WireLoadOptions,
  hub: Hub,
  warnings: string[],
  signal: AbortSignal,
  emit: (event: ProgressEvent) => void,
): Promise<Loaded> {
  const progress = new Progress(source.name, emit);
  const checkAbort = () => {
    if (signal.aborted) throw abortError();
  };
  progress.start();

  progress.phase("compile");
  const { memory } = await startWasm(options.wasm_url);
  checkAbort();

  const small = (file: string) => whole(hub, file, progress);
  const config = await small("config.json");
  if (!config) throw missing("config.json", "the model's configuration");
  const generation_config = await small("generation_config.json");
  const loader = new Loader(await readText(config), generation_config ? await readText(generation_config) : undefined);
  try {
    await loadTokenizer(loader, small);
    checkAbort();
    progress.phase("self-test");
    await loader.openDevice(options.device, options.device === "wasm" ? undefined : await describeAdapter());
    checkAbort();
    await loadWeights(loader, hub, progress);
  } catch (error) {
    loader.free();
    throw error;
  }
  const model = loader.finish(); // takes the loader
  await hub.complete();
  const info = model.info() as Omit<Answers["load"], "warnings">;
  if (info.device === "webgpu") countDispatches();
  progress.finish();
  return {
    model,
    info: { ...info, warnings },
    bytes_held: () => memory.buffer.byteLength,
    is_gpu: info.device === "webgpu",
  };
}

/** Compiles and starts the WebAssembly module; the second time it is there already. */
export function startWasm(url: string | null): ReturnType<typeof init> {
  return init({ module_or_path: url ?? new URL("./gpt2_web_bg.wasm", import.meta.url) });
}

async function loadTokenizer(loader: Loader, small: (file: string) => Promise<OpenFile | null>): Promise<void> {
  const tokenizer = await small("tokenizer.json");
  if (tokenizer) return loader.tokenizerJson(await readBytes(tokenizer));
  const [vocab, merges] = [await small("vocab.json"), await small("merges.txt")];
  if (!vocab) throw missing("tokenizer.json", "this file, or vocab.json and merges.txt");
  if (!merges) throw missing("merges.txt", "this file beside vocab.json, or tokenizer.json");
  loader.vocabAndMerges(await readText(vocab), await readText(merges));
}

async function loadWeights(loader: Loader, hub: Hub, progress: Progress): Promise<void> {
  const single = await open(hub, "model.safetensors", progress);
  if (single) return write(loader, "model.safetensors", single, progress);
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
