/** Chooses where a model's files come from: through the cache, the network alone, or disk. Runs in the worker. */

import type { WireModel } from "../api/messages.js";
import { fileUrl } from "./address.js";
import { CachedHub } from "./cached-hub.js";
import { checked, checkedPieces } from "./digest.js";
import { openRemote, versionOf } from "./http.js";
import type { FileSize, Hub, HubOptions, OpenFile } from "./hub.js";
import { listedFetch } from "./listed-fetch.js";
import type { PublishedWeights } from "./manifest.js";
import { placeFor } from "./model-cache.js";
import { readStream } from "./read-stream.js";
import type { Refusal } from "./request.js";

/** The hub for a model. */
export async function openHub(model: WireModel, options: HubOptions): Promise<Hub> {
  if (model.kind === "files") return new DiskHub(model.files, options);
  const { base, files } = model;
  const all = files ? { ...options, fetch: listedFetch(base, files, options.fetch) } : options;
  if (!options.cache) return new NetworkHub(base, all);
  return new CachedHub(model, await placeFor(model, options.isAnew), all);
}

/** A hub that keeps nothing. */
abstract class PlainHub implements Hub {
  protected readonly options: HubOptions;

  constructor(options: HubOptions) {
    this.options = options;
  }

  abstract open(file: string): Promise<OpenFile | null>;
  abstract size(file: string, maxAttempts?: number): Promise<FileSize | null>;

  refusal(_file: string): Refusal | undefined {
    return undefined;
  }

  names(): string[] | null {
    return null;
  }

  async packedSizes(): Promise<[]> {
    return [];
  }

  prefetch(): void {}

  async openPacked(): Promise<null> {
    return null;
  }

  async openPublished(published: PublishedWeights): Promise<OpenFile | null> {
    const file = await this.open(published.name);
    if (!file) return null;
    const { verify, checking } = this.options;
    const tell = (nBytes: number, isDone: boolean) => checking(published.name, nBytes, isDone);
    const chunks = verify ? checkedPieces(file.chunks, published, tell) : file.chunks;
    return { ...file, chunks, warnings: published.warnings };
  }

  async confirm(): Promise<void> {}

  async keepPacked(): Promise<void> {}

  async complete(): Promise<void> {}

  async drop(): Promise<void> {}

  async close(): Promise<void> {}
}

class DiskHub extends PlainHub {
  #files: Map<string, Blob>;

  constructor(files: Map<string, Blob>, options: HubOptions) {
    super(options);
    this.#files = files;
  }

  async open(file: string): Promise<OpenFile | null> {
    const blob = this.#files.get(file);
    return blob ? { name: file, bytes: blob.size, chunks: readStream(blob.stream(), this.options.signal) } : null;
  }

  async size(file: string): Promise<FileSize | null> {
    const blob = this.#files.get(file);
    return blob ? { bytes: blob.size, cached: blob.size } : null;
  }

  override names(): string[] {
    return [...this.#files.keys()];
  }
}

class NetworkHub extends PlainHub {
  #base: string;
  #refusals = new Map<string, Refusal>();
  /** Files that the server has said it does not have. */
  #absent = new Set<string>();

  constructor(base: string, options: HubOptions) {
    super(options);
    this.#base = base;
  }

  async open(file: string): Promise<OpenFile | null> {
    if (this.#absent.has(file)) return null;
    const { verify, warn, checking, startHash } = this.options;
    const opened = await openRemote(fileUrl(file, this.#base), null, this.options);
    if (!opened || "refusal" in opened) return this.#without(file, opened?.refusal);
    if (opened.unread !== null)
      warn(`${file}: its SHA-256 could not be asked for (${opened.unread}), so it is unverified`);
    const tell = (nBytes: number, isDone: boolean) => checking(file, nBytes, isDone);
    const chunks = checked(opened.chunks, verify ? opened.sha256 : null, file, { startHash, tell });
    return { name: file, bytes: opened.bytes, chunks };
  }

  async size(file: string, maxAttempts?: number): Promise<FileSize | null> {
    const found = await versionOf(fileUrl(file, this.#base), this.options, maxAttempts);
    if (found && !("refusal" in found)) return { bytes: found.about, cached: 0 };
    if (!found) this.#absent.add(file);
    return this.#without(file, found?.refusal);
  }

  override refusal(file: string): Refusal | undefined {
    return this.#refusals.get(file);
  }

  #without(file: string, refusal: Refusal | undefined): null {
    if (refusal) this.#refusals.set(file, refusal);
    return null;
  }
}
