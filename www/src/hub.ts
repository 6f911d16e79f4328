/** The files of a checkpoint, from the network, the cache or disk, as streams of bytes. Runs in the worker. */

import { abortError, invalidOption, isAbort, makeError } from "./errors.js";
import type { WireModel } from "./messages.js";
import * as store from "./store.js";

/** An open file. */
export interface OpenFile {
  /** Size in bytes, where it is known. */
  bytes: number | null;
  /** Whether it comes from the cache. */
  cached: boolean;
  chunks: AsyncIterable<Uint8Array>;
}

/** Where a checkpoint's files come from. */
export interface Hub {
  /** Opens a file; `null` if there is none of that name. */
  open(file: string): Promise<OpenFile | null>;
  /** Called when every file has been read to its end. */
  complete(): Promise<void>;
}

/** `fetch`, or what stands in for it. */
export type Fetch = (url: string, init: { signal: AbortSignal }) => Promise<Response>;

/** What a hub needs to know. */
export interface HubOptions {
  fetch: Fetch;
  cache: boolean;
  verify: boolean;
  signal: AbortSignal;
  /** Takes what went wrong without being fatal. */
  warn(message: string): void;
}

/** The hub for a model. */
export function openHub(model: WireModel, options: HubOptions): Hub {
  if (model.kind === "files") return new DiskHub(model.files, options.signal);
  const network = new NetworkHub(model.base, options);
  return options.cache ? new CachedHub(model, network, options) : network;
}

/** Reads a small text file whole. */
export async function readText(file: OpenFile): Promise<string> {
  return new TextDecoder().decode(await readBytes(file));
}

/** Reads a small file whole. */
export async function readBytes(file: OpenFile): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of file.chunks) chunks.push(new Uint8Array(chunk));
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
    return blob ? { bytes: blob.size, cached: false, chunks: readStream(blob.stream(), this.#signal) } : null;
  }

  async complete(): Promise<void> {}
}

class NetworkHub implements Hub {
  #base: string;
  #options: HubOptions;

  constructor(base: string, options: HubOptions) {
    this.#base = base;
    this.#options = options;
  }

  async open(file: string): Promise<OpenFile | null> {
    const url = new URL(file, this.#base).href;
    const { signal } = this.#options;
    let response: Response;
    try {
      response = await this.#options.fetch(url, { signal });
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw abortError();
      throw makeError("network", `${url}: the request failed (${(error as Error).message})`, { url });
    }
    const is_page = response.headers.get("content-type")?.includes("text/html");
    // hosts of single-page apps answer any path with their page
    if (response.status === 404 || (response.ok && is_page)) {
      await response.body?.cancel();
      return null;
    }
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      const hint = response.status === 401 || response.status === 403 ? ": the model is private, gated or does not exist" : "";
      const details = { url, status: response.status };
      throw makeError("network", `${url}: expected the file, found HTTP status ${response.status}${hint}`, details);
    }
    // the length of a compressed body says nothing about the file's
    const is_plain = !response.headers.get("content-encoding");
    const length = is_plain ? response.headers.get("content-length") : null;
    const bytes = length === null ? null : Number(length);
    return { bytes, cached: false, chunks: this.#read(url, response.body, bytes) };
  }

  async *#read(url: string, body: ReadableStream<Uint8Array>, expected: number | null): AsyncGenerator<Uint8Array> {
    const { signal, verify } = this.#options;
    let found = 0;
    try {
      for await (const chunk of readStream(body, signal)) {
        found += chunk.byteLength;
        yield chunk;
      }
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw abortError();
      throw makeError("network", `${url}: the connection broke after ${found} bytes (${(error as Error).message})`, { url });
    }
    if (verify && expected !== null && found !== expected) {
      throw makeError("integrity", `${url}: expected ${expected} bytes, found ${found}`, { url, expected, found });
    }
  }

  async complete(): Promise<void> {}
}

/** Reads through the cache. A cache that fails is left aside, and says so once. */
class CachedHub implements Hub {
  #key: string;
  #model: WireModel & { kind: "url" };
  #network: NetworkHub;
  #options: HubOptions;
  #works = true;

  constructor(model: WireModel & { kind: "url" }, network: NetworkHub, options: HubOptions) {
    this.#key = cacheKey(model);
    this.#model = model;
    this.#network = network;
    this.#options = options;
  }

  async open(file: string): Promise<OpenFile | null> {
    const entry = await this.#try(() => store.findFile(this.#key, file));
    // of a model that is not whole, an absent file may have been added since; one that is there is what it was
    if (entry && entry.bytes !== null) return { bytes: entry.bytes, cached: true, chunks: store.readFile(entry) };
    if (entry && (await this.#try(() => store.isComplete(this.#key)))) return null;
    const opened = await this.#network.open(file);
    if (!opened) {
      await this.#try(() => store.markAbsent(this.#key, file));
      return null;
    }
    return { ...opened, chunks: this.#tee(file, opened.chunks) };
  }

  async *#tee(file: string, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    await this.#try(() => store.deleteFile(this.#key, file));
    const writer = new store.FileWriter(this.#key, file);
    for await (const chunk of chunks) {
      await this.#try(() => writer.write(chunk));
      yield chunk;
    }
    await this.#try(() => writer.finish());
  }

  async complete(): Promise<void> {
    await this.#try(() => store.markComplete(this.#key, this.#model.name, this.#model.revision));
  }

  async #try<T>(action: () => Promise<T>): Promise<T | undefined> {
    if (!this.#works) return undefined;
    try {
      return await action();
    } catch (error) {
      this.#works = false;
      const { name, message } = error as Error;
      const what = name === "QuotaExceededError" ? "the browser's storage is full" : "IndexedDB cannot be used";
      this.#options.warn(`not cached: ${what} (${message || name})`);
      return undefined;
    }
  }
}

/** The cache's key for a model: where it is from and which revision. */
export function cacheKey(model: WireModel): string {
  if (model.kind === "files") throw invalidOption("model", "a model with an address", "files");
  return `${model.base}#${model.revision}`;
}

/** A stream's chunks, until the signal says stop. (Not every browser can iterate a stream.) */
async function* readStream(stream: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel().catch(() => undefined); // the stream may have failed by itself
  signal.addEventListener("abort", cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) throw abortError();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}
