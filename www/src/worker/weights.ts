/** The weights of a model, from the cache or from its checkpoint into the engine's memory, and back into the cache. */

import { type Loader, type Model, shardNames } from "../../wasm/gpt2_web.js";
import { makeError } from "../api/errors.js";
import { type OpenFile, readText } from "../files/hub.js";
import { release } from "../files/release.js";
import { type Checkpoint, missing } from "./checkpoint.js";
import type { Progress } from "./progress.js";

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
 * Returns the names of the checkpoint's files that hold its weights; none if they were packed.
 */
export async function loadWeights(request: WeightsRequest): Promise<string[]> {
  const { checkpoint, loader, packedName: name, writePacked, progress, check } = request;
  const nBytes = loader.packedBytes();
  const kept = await checkpoint.hub.openPacked(name);
  if (!kept || kept.bytes !== nBytes) return loadCheckpoint(request);
  progress.initiate(name);
  progress.open(name, nBytes);
  let offset = 0;
  for await (const chunk of kept.chunks) {
    check();
    if (offset + chunk.byteLength <= nBytes) writePacked(offset, chunk);
    offset += chunk.byteLength;
    progress.advance(name, chunk.byteLength);
  }
  if (offset !== nBytes) {
    await checkpoint.hub.drop(name);
    const message = `${name}: expected ${nBytes} bytes in the cache, found ${offset}; a retry fetches the model again`;
    throw makeError("integrity", message, { file: name });
  }
  progress.close(name);
  return [];
}

async function loadCheckpoint(request: WeightsRequest): Promise<string[]> {
  const { checkpoint, progress } = request;
  const single = await checkpoint.open("model.safetensors");
  if (single) {
    await write(request, single);
    return ["model.safetensors"];
  }
  const index = await checkpoint.open("model.safetensors.index.json");
  if (!index) throw missing("model.safetensors", "this file, or model.safetensors.index.json and its shards");
  const json = await readText(index);
  const shards = shardNames(json);
  const { metadata } = JSON.parse(json) as { metadata?: { total_size?: unknown } };
  const totalBytes = typeof metadata?.total_size === "number" ? metadata.total_size : null;
  if (totalBytes !== null) progress.expect(totalBytes);
  checkpoint.hub.prefetch(shards, totalBytes);
  for (const shard of shards) {
    const file = await checkpoint.open(shard);
    if (!file) throw missing(shard, "the shard that model.safetensors.index.json names");
    await write(request, file);
  }
  return ["model.safetensors.index.json", ...shards];
}

async function write({ loader, check }: WeightsRequest, { name, bytes, chunks }: OpenFile): Promise<void> {
  loader.beginFile(name, bytes ?? undefined);
  for await (const chunk of chunks) {
    check();
    loader.write(chunk);
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
