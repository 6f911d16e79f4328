/** The weights of a model, from the cache or from its checkpoint into the engine's memory. */

import type { Loader } from "../../wasm/gpt2_web.js";
import { makeError } from "../api/errors.js";
import { type OpenFile, readText } from "../files/hub.js";
import { MANIFEST, type PublishedWeights } from "../files/manifest.js";
import type { Checkpoint } from "./checkpoint.js";
import { isIndex } from "./inventory.js";
import type { Progress } from "./progress.js";
import { missing, noWeights } from "./unusable.js";
import { wasm } from "./wasm.js";

/** Where weights come from, and where they go. */
export interface WeightsRequest extends CheckpointRequest {
  loader: Loader;
  /** Name of the file that an earlier visit may have packed. */
  packedName: string;
  /** The packed weights in the model's folder, if it is a converted one. */
  published: PublishedWeights | null;
  /** Writes packed weights to the engine's memory. */
  writePacked(offset: number, bytes: Uint8Array): void;
}

/**
 * Fills the engine's memory: with what an earlier visit packed, with the packed weights of a converted folder, or from
 * the checkpoint, packed as it arrives.
 *
 * Returns the names of the checkpoint's files that hold its weights, or what was told when these were packed.
 */
export async function loadWeights(request: WeightsRequest): Promise<{ files: string[]; warnings: string[] }> {
  const { checkpoint, loader, packedName: name, published, progress } = request;
  const nBytes = loader.packedBytes();
  const kept = await checkpoint.hub.openPacked(name);
  const isKept = kept?.bytes === nBytes;
  const packed = isKept ? kept : published && (await openPublished(request, published, nBytes));
  if (!packed) return { files: await loadCheckpoint(request), warnings: [] };
  progress.initiate(name);
  progress.open(name, nBytes);
  const found = await takePacked(request, packed, nBytes);
  if (found !== nBytes) {
    await checkpoint.hub.drop(name);
    const message = `${name}: expected ${nBytes} bytes, found ${found}; a retry fetches the model again`;
    throw makeError("integrity", message, { file: name });
  }
  progress.close(name);
  return { files: [], warnings: packed.warnings ?? [] };
}

async function openPublished(
  { checkpoint }: WeightsRequest,
  published: PublishedWeights,
  nBytes: number,
): Promise<OpenFile> {
  const { name, bytes } = published;
  if (bytes !== nBytes) {
    const [expected, found] = [`${nBytes} bytes, as config.json's sizes make`, String(bytes)];
    throw makeError("checkpoint", `${name}: expected ${expected}, found ${found}`, { file: name, expected, found });
  }
  const file = await checkpoint.hub.openPublished(published);
  if (!file) throw missing(checkpoint.hub, name, `the packed weights that ${MANIFEST} names`);
  return file;
}

/** Moves packed weights to the engine's memory. → how many bytes there were */
async function takePacked(
  { packedName: name, writePacked, progress, check }: WeightsRequest,
  { chunks }: OpenFile,
  nBytes: number,
): Promise<number> {
  progress.step("upload", name, 0);
  let offset = 0;
  for await (const chunk of inWords(chunks)) {
    check();
    if (offset + chunk.byteLength <= nBytes) writePacked(offset, chunk);
    offset += chunk.byteLength;
    progress.advance(name, chunk.byteLength);
    progress.step("upload", name, chunk.byteLength);
  }
  return offset;
}

/** The same bytes in chunks of whole words of 4 bytes, as a GPU takes them; a network's chunks have any length. */
async function* inWords(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = new Uint8Array(0);
  for await (const chunk of chunks) {
    const nFirst = held.byteLength === 0 ? 0 : Math.min(4 - held.byteLength, chunk.byteLength);
    if (nFirst > 0) {
      const word = new Uint8Array(held.byteLength + nFirst);
      word.set(held);
      word.set(chunk.subarray(0, nFirst), held.byteLength);
      held = word.byteLength === 4 ? new Uint8Array(0) : word;
      if (word.byteLength < 4) continue;
      yield word;
    }
    const end = chunk.byteLength - ((chunk.byteLength - nFirst) % 4);
    if (end > nFirst) yield chunk.subarray(nFirst, end);
    if (end < chunk.byteLength) held = chunk.slice(end);
  }
  if (held.byteLength > 0) yield held;
}

/** What takes the bytes of a checkpoint's files. */
export type WeightsTaker = Pick<Loader, "beginFile" | "write">;

/** Where a checkpoint's own weights come from, and where they go. */
export interface CheckpointRequest {
  checkpoint: Checkpoint;
  loader: WeightsTaker;
  progress: Progress;
  /** Throws if the weights are of no use any more. */
  check(): void;
}

/** Reads a checkpoint's own weights. → the names of the files that hold them */
export async function loadCheckpoint(request: CheckpointRequest): Promise<string[]> {
  const { checkpoint } = request;
  for (const name of wasm().weightFiles()) {
    const file = await checkpoint.open(name);
    if (!file) continue;
    if (isIndex(name)) return loadShards(request, name, await readText(file));
    await write(request, file);
    return [name];
  }
  throw await noWeights(checkpoint.hub, wasm().weightFiles());
}

async function loadShards(request: CheckpointRequest, index: string, json: string): Promise<string[]> {
  const { checkpoint } = request;
  const shards = wasm().shardNames(index, json);
  const { metadata } = JSON.parse(json) as { metadata?: { total_size?: unknown } };
  checkpoint.hub.prefetch(shards, typeof metadata?.total_size === "number" ? metadata.total_size : null);
  for (const shard of shards) {
    const file = await checkpoint.open(shard);
    if (!file) throw missing(checkpoint.hub, shard, `the shard that ${index} names`);
    await write(request, file);
  }
  return [index, ...shards];
}

async function write({ loader, progress, check }: CheckpointRequest, { name, bytes, chunks }: OpenFile): Promise<void> {
  loader.beginFile(name, bytes ?? undefined);
  progress.step("convert", name, 0);
  for await (const chunk of chunks) {
    check();
    loader.write(chunk);
    progress.step("convert", name, chunk.byteLength);
  }
}
