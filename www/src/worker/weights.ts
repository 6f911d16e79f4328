/** The weights of a model, from the cache or from its checkpoint into the engine's memory, and back into the cache. */

import type { Loader, Model } from "../../wasm/gpt2_web.js";
import { makeError } from "../api/errors.js";
import { type OpenFile, readText } from "../files/hub.js";
import { release } from "../files/release.js";
import type { Checkpoint } from "./checkpoint.js";
import { isIndex } from "./inventory.js";
import type { Progress } from "./progress.js";
import { missing, noWeights } from "./unusable.js";
import { wasm } from "./wasm.js";

/** Where weights come from, and where they go. */
export interface WeightsRequest {
  checkpoint: Checkpoint;
  loader: Loader;
  /** Name of the file that an earlier visit may have packed. */
  packedName: string;
  /** Writes packed weights to the engine's memory. */
  writePacked(offset: number, bytes: Uint8Array): void;
  progress: Progress;
  /** Throws if the weights are of no use any more. */
  check(): void;
}

/**
 * Fills the engine's memory: with what an earlier visit packed, or from the checkpoint, packed as it arrives.
 *
 * Returns the names of the checkpoint's files that hold its weights, or what was told when these were packed.
 */
export async function loadWeights(request: WeightsRequest): Promise<{ files: string[]; warnings: string[] }> {
  const { checkpoint, loader, packedName: name, writePacked, progress, check } = request;
  const nBytes = loader.packedBytes();
  const kept = await checkpoint.hub.openPacked(name);
  if (!kept || kept.bytes !== nBytes) return { files: await loadCheckpoint(request), warnings: [] };
  progress.initiate(name);
  progress.open(name, nBytes);
  progress.step("upload", name, 0);
  let offset = 0;
  for await (const chunk of kept.chunks) {
    check();
    if (offset + chunk.byteLength <= nBytes) writePacked(offset, chunk);
    offset += chunk.byteLength;
    progress.advance(name, chunk.byteLength);
    progress.step("upload", name, chunk.byteLength);
  }
  if (offset !== nBytes) {
    await checkpoint.hub.drop(name);
    const message = `${name}: expected ${nBytes} bytes in the cache, found ${offset}; a retry fetches the model again`;
    throw makeError("integrity", message, { file: name });
  }
  progress.close(name);
  return { files: [], warnings: kept.warnings ?? [] };
}

async function loadCheckpoint(request: WeightsRequest): Promise<string[]> {
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

async function loadShards(request: WeightsRequest, index: string, json: string): Promise<string[]> {
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

async function write({ loader, progress, check }: WeightsRequest, { name, bytes, chunks }: OpenFile): Promise<void> {
  loader.beginFile(name, bytes ?? undefined);
  progress.step("convert", name, 0);
  for await (const chunk of chunks) {
    check();
    loader.write(chunk);
    progress.step("convert", name, chunk.byteLength);
  }
}

/** Bytes of packed weights that are moved at once. */
const PIECE_BYTES = 4 << 20;

/** The packed weights of a model, piece by piece; each piece is there until the next one is asked for. */
export async function* packedPieces(model: Model, nBytes: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < nBytes; offset += PIECE_BYTES) {
    const piece = await model.readPacked(offset, Math.min(PIECE_BYTES, nBytes - offset));
    yield piece;
    release(piece);
  }
}
