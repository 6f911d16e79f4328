/** The files of a checkpoint, from the network, the cache or disk, as streams of bytes. Runs in the worker. */

import { invalidOption, makeError } from "./errors.js";
import { checked, isSame, openRemote, readStream, versionOf, type HttpOptions, type Remote } from "./http.js";
import type { WireModel } from "./messages.js";
import * as store from "./store.js";

/** An open file. */
export interface OpenFile {
  name: string;
  /** Size in bytes, where it is known. */
  bytes: number | null;
  chunks: AsyncIterable<Uint8Array>;
}

/** Where a checkpoint's files come from. */
export interface Hub {
  /** Opens a file; `null` if there is none of that name. */
  open(file: string): Promise<OpenFile | null>;
  /** A file's size and how much of it is in the cache, without reading it; `null` if there is none of that name. */
  size(file: string): Promise<{ bytes: number; cached: number } | null>;
  /** Opens packed weights that are whole in the cache; never asks the network. */
  openPacked(name: string): Promise<OpenFile | null>;
  /** Keeps packed weights, then forgets the files that they were made from. */
  keepPacked(name: string, bytes: number, chunks: AsyncIterable<Uint8Array>, replaces: string[]): Promise<void>;
  /** Called when every file has been read to its end. */
  complete(): Promise<void>;
  /** Called when a file turned out to be malformed: a retry must not read the same bytes again. */
  drop(file: string): Promise<void>;
}

/** What a hub needs to know. */
export interface HubOptions extends HttpOptions {
  cache: boolean;
  /** Takes what went wrong without being fatal. */
  warn(message: string): void;
}

/** The hub for a model. */
export function openHub(model: WireModel, options: HubOptions): Hub {
  if (model.kind === "files") return new DiskHub(model.files, options.signal);
  return options.cache ? new CachedHub(model, options) : new NetworkHub(model.base, options);
}

/** Reads a small text file whole. */
export async function readText(file: OpenFile): Promise<string> {
  return new TextDecoder().decode(await readBytes(file));
}

/** The largest real tokenizer.json is 2 MB. */
const MAX_SMALL_BYTES = 64 << 20;

/** Reads a small file whole; one that does not end is none. */
export async function readBytes(file: OpenFile): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let n_bytes = 0;
  for await (const chunk of file.chunks) {
    n_bytes += chunk.byteLength;
    if (n_bytes > MAX_SMALL_BYTES) {
      const [expected, found] = [`at most ${MAX_SMALL_BYTES} bytes`, "more"];
      throw makeError("checkpoint", `${file.name}: expected ${expected}, found ${found}`, { file: file.name, expected, found });
    }
    chunks.push(new Uint8Array(chunk));
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

class DiskHub implements Hub {
  #files: Map<string, Blob>;
  #signal: AbortSignal;

  constructor(files: Map<string, Blob>, signal: AbortSignal) {
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

  async openPacked(): Promise<null> {
    return null;
  }

  async keepPacked(): Promise<void> {}

  async complete(): Promise<void> {}

  async drop(): Promise<void> {}
}

class NetworkHub implements Hub {
  #base: string;
  #options: HubOptions;

  constructor(base: string, options: HubOptions) {
    this.#base = base;
    this.#options = options;
  }

  async open(file: string): Promise<OpenFile | null> {
    const remote = await openRemote(new URL(file, this.#base).href, null, this.#options);
    return remote && { name: file, bytes: remote.bytes, chunks: verified(remote.chunks, remote.sha256, file, this.#options) };
  }

  async size(file: string): Promise<{ bytes: number; cached: number } | null> {
    const remote = await versionOf(new URL(file, this.#base).href, this.#options);
    return remote && { bytes: remote.bytes ?? 0, cached: 0 };
  }

  async openPacked(): Promise<null> {
    return null;
  }

  async keepPacked(): Promise<void> {}

  async complete(): Promise<void> {}

  async drop(): Promise<void> {}
}

/** Reads through the cache. A cache that fails is left aside, and says so once. */
class CachedHub implements Hub {
  #key: string;
  #model: WireModel & { kind: "url" };
  #options: HubOptions;
  #works = true;

  constructor(model: WireModel & { kind: "url" }, options: HubOptions) {
    this.#key = cacheKey(model);
    this.#model = model;
    this.#options = options;
  }

  async open(file: string): Promise<OpenFile | null> {
    const kept = await this.#try(() => store.findFile(this.#key, file));
    const is_complete = kept?.whole ? await this.#try(() => store.isComplete(this.#key)) : false;
    const url = new URL(file, this.#model.base).href;
    if (kept?.whole && kept.n_bytes !== null && (kept.checked || !this.#options.verify)) {
      // files of a model that never became whole may have changed since
      const now = is_complete ? null : await versionOf(url, this.#options);
      if (is_complete || (now && isSame(now, kept))) return { name: file, bytes: kept.n_bytes, chunks: this.#read(kept) };
    }
    if (kept?.n_bytes === null && is_complete) return null;

    const part = kept && !kept.whole && kept.n_bytes ? { ...kept, n: kept.n_bytes } : null;
    const remote = await openRemote(url, part, this.#options);
    if (!remote) {
      await this.#try(() => store.markAbsent(this.#key, file));
      return null;
    }
    if (part && remote.from === 0) {
      this.#options.warn(`${file}: the server did not continue the download from byte ${part.n}, so it began anew`);
    }
    const whole = this.#keep(file, remote, remote.from > 0 ? kept : undefined);
    return { name: file, bytes: remote.bytes, chunks: this.#finish(file, remote, whole) };
  }

  async size(file: string): Promise<{ bytes: number; cached: number } | null> {
    const kept = await this.#try(() => store.findFile(this.#key, file));
    const cached = kept?.n_bytes ?? 0;
    if (kept?.whole) return kept.n_bytes === null ? null : { bytes: cached, cached };
    const remote = await versionOf(new URL(file, this.#model.base).href, this.#options);
    return remote && { bytes: remote.bytes ?? kept?.bytes ?? 0, cached };
  }

  async openPacked(): Promise<null> {
    return null;
  }

  async keepPacked(): Promise<void> {}

  async complete(): Promise<void> {
    await this.#try(() => store.markComplete(this.#key, this.#model.name, this.#model.revision));
  }

  async drop(file: string): Promise<void> {
    await this.#try(() => store.deleteFile(this.#key, file));
  }

  #writer: store.FileWriter | undefined;

  /** What is kept of a file. A browser may lose some of it; then the rest is of no use. */
  async *#read(entry: store.FileEntry): AsyncGenerator<Uint8Array> {
    try {
      yield* store.readFile(entry);
    } catch (error) {
      await this.drop(entry.file);
      const message = `${entry.file}: the browser has lost a part of what it kept (${(error as Error).message}); a retry fetches it again`;
      throw makeError("integrity", message, { file: entry.file });
    }
  }

  /** The file from its first byte: what is kept of it, then what comes, which is kept as well. */
  async *#keep(file: string, remote: Remote, part: store.FileEntry | undefined): AsyncGenerator<Uint8Array> {
    if (part) yield* this.#read(part);
    else await this.#try(() => store.deleteFile(this.#key, file));
    const { bytes, tag, sha256 } = remote;
    const writer = new store.FileWriter({ model: this.#key, file, bytes, tag, sha256, checked: this.#options.verify }, part);
    this.#writer = writer;
    try {
      for await (const chunk of remote.chunks) {
        await this.#try(() => writer.write(chunk));
        yield chunk;
      }
    } finally {
      // also when it breaks off: the next visit goes on from here
      await this.#try(() => writer.flush());
    }
  }

  /** Marks the file as whole once it has passed its checks, and drops it if it has not. */
  async *#finish(file: string, { sha256 }: Remote, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* verified(chunks, sha256, file, this.#options);
    } catch (error) {
      if ((error as { code?: string }).code === "integrity") await this.drop(file);
      throw error;
    }
    await this.#try(async () => this.#writer?.finish());
  }

  async #try<T>(action: () => Promise<T>): Promise<T | undefined> {
    if (!this.#works) return undefined;
    try {
      return await action();
    } catch (error) {
      this.#works = false;
      const { name, message } = error as Error;
      // a part that cannot become whole only takes room; where even this fails the next visit tries again
      if (name === "QuotaExceededError") await store.deleteAll(this.#key).catch(() => undefined);
      const what = name === "QuotaExceededError" ? "the browser's storage is full" : "IndexedDB cannot be used";
      this.#options.warn(`not cached: ${what} (${message || name})`);
      return undefined;
    }
  }
}

function verified(chunks: AsyncIterable<Uint8Array>, digest: string | null, file: string, { verify }: HubOptions): AsyncIterable<Uint8Array> {
  return verify && digest !== null ? checked(chunks, digest, file) : chunks;
}

/** The cache's key for a model: where it is from and which revision. */
export function cacheKey(model: WireModel): string {
  if (model.kind === "files") throw invalidOption("model", "a model with an address", "files");
  return `${model.base}#${model.revision}`;
}
