/** Chooses where a model's files come from: through the cache, the network alone, or disk. Runs in the worker. */

import type { WireModel } from "../api/messages.js";
import { CachedHub } from "./cached-hub.js";
import { openRemote, verified, versionOf } from "./http.js";
import type { Hub, HubOptions, OpenFile } from "./hub.js";
import { listedFetch } from "./listed-fetch.js";
import { readStream } from "./read-stream.js";

/** The hub for a model. */
export function openHub(model: WireModel, options: HubOptions): Hub {
  if (model.kind === "files") return new DiskHub(model.files, options.signal);
  const { base, files } = model;
  const all = files ? { ...options, fetch: listedFetch(base, files, options.fetch) } : options;
  return options.cache ? new CachedHub(model, all) : new NetworkHub(base, all);
}

/** A hub that keeps nothing. */
abstract class PlainHub implements Hub {
  abstract open(file: string): Promise<OpenFile | null>;
  abstract size(file: string): Promise<{ bytes: number; cached: number } | null>;

  prefetch(): void {}

  async openPacked(): Promise<null> {
    return null;
  }

  async keepPacked(): Promise<void> {}

  async complete(): Promise<void> {}

  async drop(): Promise<void> {}

  async close(): Promise<void> {}
}

class DiskHub extends PlainHub {
  #files: Map<string, Blob>;
  #signal: AbortSignal;

  constructor(files: Map<string, Blob>, signal: AbortSignal) {
    super();
    this.#files = files;
    this.#signal = signal;
  }

  async open(file: string): Promise<OpenFile | null> {
    const blob = this.#files.get(file);
    return blob ? { name: file, bytes: blob.size, chunks: readStream(blob.stream(), this.#signal) } : null;
  }

  async size(file: string): Promise<{ bytes: number; cached: number } | null> {
    const blob = this.#files.get(file);
    return blob ? { bytes: blob.size, cached: blob.size } : null;
  }
}

class NetworkHub extends PlainHub {
  #base: string;
  #options: HubOptions;

  constructor(base: string, options: HubOptions) {
    super();
    this.#base = base;
    this.#options = options;
  }

  async open(file: string): Promise<OpenFile | null> {
    const remote = await openRemote(new URL(file, this.#base).href, null, this.#options);
    return (
      remote && {
        name: file,
        bytes: remote.bytes,
        chunks: verified(remote.chunks, remote.sha256, file, this.#options.verify),
      }
    );
  }

  async size(file: string): Promise<{ bytes: number; cached: number } | null> {
    const remote = await versionOf(new URL(file, this.#base).href, this.#options);
    return remote && { bytes: remote.bytes ?? 0, cached: 0 };
  }
}
