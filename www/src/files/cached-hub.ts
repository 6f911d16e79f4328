/** The files of a checkpoint through the cache: from there, or from the network into it. Runs in the worker. */

import { Arrival, after } from "./arrival.js";
import { abortError, makeError } from "../api/errors.js";
import { FileWriter } from "./file-writer.js";
import { isSame, openRemote, verified, versionOf, type Remote, type Version } from "./http.js";
import type { Hub, HubOptions, OpenFile } from "./hub.js";
import type { WireModel } from "../api/messages.js";
import { keepPacked } from "./packed.js";
import { cacheKey } from "./source.js";
import * as store from "./store.js";

/** Files that are fetched at once: a browser allows six connections to a host. */
const MAX_AT_ONCE = 4;

/** Where a file is: whole in the cache (`remote: null`), or on the server from what `kept` ends with. */
type Place = { kept: store.FileEntry; remote: null } | { kept: store.FileEntry | undefined; remote: Remote };

/** Reads through the cache. A cache that fails is left aside, and says so once. */
export class CachedHub implements Hub {
  #key: string;
  #model: WireModel & { kind: "url" };
  #options: HubOptions;
  /** Whether anything can be kept. */
  #works = true;
  /** Whether there is room for the checkpoint's own weights. */
  #has_room = true;
  #begun: Promise<void> | undefined;
  /** Every file that was opened. */
  #opened = new Set<string>();
  #arrivals = new Map<string, Promise<Arrival | Place | null>>();
  /** Stops the arrivals. */
  #stop = new AbortController();

  constructor(model: WireModel & { kind: "url" }, options: HubOptions) {
    [this.#key, this.#model, this.#options] = [cacheKey(model), model, options];
    options.signal.addEventListener("abort", () => this.#stop.abort(), { once: true });
  }

  async open(file: string): Promise<OpenFile | null> {
    this.#opened.add(file);
    const place = await this.#place(file);
    if (place instanceof Arrival) {
      const { remote, writer } = place;
      return { name: file, bytes: remote.bytes, chunks: this.#checked(file, remote.sha256, this.#follow(file, place), writer) };
    }
    if (place === null) {
      this.#opened.delete(file);
      return null;
    }
    const { kept, remote } = place;
    if (remote) {
      const writer = this.#writer(file, remote, kept);
      return { name: file, bytes: remote.bytes, chunks: this.#checked(file, remote.sha256, this.#keep(file, remote, kept, writer), writer) };
    }
    const chunks = kept.whole ? this.#read(kept) : this.#checked(file, kept.sha256, this.#read(kept), this.#writer(file, kept, kept));
    return { name: file, bytes: kept.n_bytes, chunks };
  }

  async size(file: string): Promise<{ bytes: number; cached: number } | null> {
    const kept = await this.#try(() => store.findFile(this.#key, file));
    const cached = kept?.n_bytes ?? 0;
    if (kept?.whole) return kept.n_bytes === null ? null : { bytes: cached, cached };
    const remote = await versionOf(this.#url(file), this.#options);
    return remote && { bytes: remote.bytes ?? kept?.bytes ?? 0, cached };
  }

  prefetch(files: string[], bytes: number | null): void {
    if (!this.#works || !this.#has_room) return;
    if (bytes !== null) void this.#try(() => this.#begin().then(() => store.noteWeightBytes(this.#key, bytes)));
    const ends: Promise<unknown>[] = [];
    files.forEach((file, i) => {
      // each begins when the one so many places before it is there
      const arrival = Promise.resolve(ends[i - MAX_AT_ONCE]).then(() => this.#arrive(file));
      this.#arrivals.set(file, arrival);
      ends.push(arrival.then((it) => (it instanceof Arrival ? it.end : undefined), () => undefined)); // `open` tells
    });
  }

  async openPacked(name: string): Promise<OpenFile | null> {
    const kept = await this.#try(() => store.findFile(this.#key, name));
    if (!kept?.whole || kept.n_bytes === null || (this.#options.verify && !kept.checked)) return null;
    return { name, bytes: kept.n_bytes, chunks: this.#read(kept) };
  }

  async keepPacked(name: string, bytes: number, chunks: AsyncIterable<Uint8Array>, replaces: string[]): Promise<void> {
    if (!this.#works) return;
    const { verify: checked, signal, warn } = this.#options;
    try {
      await this.#begin();
      const whole = new Set((await store.filesOf(this.#key)).filter((f) => f.whole).map((f) => f.file));
      // without its small files it could not be loaded, and would only take room
      if ([...this.#opened].some((file) => !store.isWeights(file) && !whole.has(file))) return;
      await keepPacked({ model: this.#key, name, bytes, chunks, replaces, was_full: !this.#has_room, checked, signal });
    } catch (error) {
      if (signal.aborted) throw abortError();
      warn(`${name}: not cached: ${reason(error)}`);
    }
  }

  async complete(): Promise<void> {
    const originals = [...this.#opened].filter(store.isWeights);
    if (originals.length > 0) await this.#try(() => store.noteOriginals(this.#key, originals));
  }

  async drop(file: string): Promise<void> {
    await this.#try(() => store.deleteFiles(this.#key, [file]));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const arrival of this.#arrivals.values()) {
      const it = await arrival.catch(() => null);
      if (it instanceof Arrival) await it.end;
    }
  }

  #url(file: string): string {
    return new URL(file, this.#model.base).href;
  }

  /** Whether this file's bytes are to be kept. */
  #keeps(file: string): boolean {
    return this.#works && (this.#has_room || !store.isWeights(file));
  }

  #begin(): Promise<void> {
    return (this.#begun ??= store.begin(this.#key, this.#model.name, this.#model.revision));
  }

  #writer(file: string, { bytes, tag, sha256 }: Version & { sha256: string | null }, kept: store.FileEntry | undefined): FileWriter {
    return new FileWriter({ model: this.#key, file, bytes, tag, sha256, checked: this.#options.verify }, kept);
  }

  /** Where a file is, or the download of it that is under way. */
  async #place(file: string): Promise<Arrival | Place | null> {
    try {
      const arrival = await this.#arrivals.get(file);
      if (arrival !== undefined) return arrival;
    } catch (error) {
      // else it was stopped because it cannot be kept
      if (this.#options.signal.aborted || this.#keeps(file)) throw error;
    }
    return this.#locate(file, this.#options);
  }

  /** Finds out where a file is. → `null` if there is none of that name */
  async #locate(file: string, options: HubOptions): Promise<Place | null> {
    const kept = await this.#try(() => store.findFile(this.#key, file));
    const is_complete = kept?.whole ? await this.#try(() => store.isComplete(this.#key)) : false;
    const url = this.#url(file);
    const is_all = kept && kept.n_bytes !== null && (kept.whole || kept.n_bytes === kept.bytes);
    if (is_all && (kept.checked || !options.verify)) {
      if (kept.whole && is_complete) return { kept, remote: null };
      // files of a model that never became whole may have changed since
      const now = await versionOf(url, options);
      if (now && isSame(now, kept)) return { kept, remote: null };
    }
    if (kept?.n_bytes === null && is_complete) return null;
    if (store.isWeights(file)) await this.#checkFresh(options);

    const part = kept && !kept.whole && kept.n_bytes ? { ...kept, n: kept.n_bytes } : null;
    const remote = await openRemote(url, part, options);
    if (!remote) {
      await this.#try(() => this.#begin().then(() => store.markAbsent(this.#key, file)));
      return null;
    }
    if (part && remote.from === 0) {
      options.warn(`${file}: the server did not continue the download from byte ${part.n}, so it began anew`);
    }
    return { kept: remote.from > 0 ? kept : undefined, remote };
  }

  #is_fresh: Promise<void> | undefined;

  /** Weights that are fetched beside packed ones must belong to the same small files: those may be of an earlier day. */
  #checkFresh(options: HubOptions): Promise<void> {
    return (this.#is_fresh ??= (async () => {
      if (!(await this.#try(() => store.isComplete(this.#key)))) return;
      for (const kept of (await this.#try(() => store.filesOf(this.#key))) ?? []) {
        if (!this.#opened.has(kept.file) || store.isWeights(kept.file) || !kept.n_bytes || kept.tag === null) continue;
        const now = await versionOf(this.#url(kept.file), options);
        if (now?.tag === kept.tag) continue;
        await this.#try(() => store.deleteAll(this.#key));
        throw makeError("integrity", `${kept.file}: it has changed on the server since it was kept; a retry fetches the model anew`, { file: kept.file });
      }
    })());
  }

  /** What is kept of a file. A browser may lose some of it; then the rest is of no use. */
  async *#read(entry: store.FileEntry): AsyncGenerator<Uint8Array> {
    try {
      yield* store.readChunks(entry.model, entry.file, 0, entry.n_chunks, this.#options.signal);
    } catch (error) {
      if (this.#options.signal.aborted) throw abortError();
      await this.drop(entry.file);
      const message = `${entry.file}: the browser has lost a part of what it kept (${(error as Error).message}); a retry fetches it again`;
      throw makeError("integrity", message, { file: entry.file });
    }
  }

  /** The file from its first byte: what is kept of it, then what comes, which is kept as well. */
  async *#keep(file: string, remote: Remote, part: store.FileEntry | undefined, writer: FileWriter): AsyncGenerator<Uint8Array> {
    if (part) yield* this.#read(part);
    else await this.#clear(file);
    try {
      for await (const chunk of remote.chunks) {
        if (this.#keeps(file)) await this.#try(() => writer.write(chunk), file);
        yield chunk;
      }
    } finally {
      // also when it breaks off: the next visit goes on from here
      if (this.#keeps(file)) await this.#try(() => writer.flush(), file);
    }
  }

  /** Begins to fetch a file into the cache, unless it is there. */
  async #arrive(file: string): Promise<Arrival | Place | null> {
    const options = { ...this.#options, signal: this.#stop.signal };
    if (this.#stop.signal.aborted) throw abortError();
    const place = await this.#locate(file, options);
    if (!place?.remote) return place;
    if (!place.kept) await this.#clear(file);
    return new Arrival(place.remote, this.#writer(file, place.remote, place.kept), async (action) => {
      if (this.#keeps(file)) await this.#try(action, file);
      if (!this.#keeps(file)) throw new Error(`${file} can no longer be kept`);
    });
  }

  /** The chunks of a file that arrives; where the cache gives out, the rest of them straight from the network. */
  async *#follow(file: string, arrival: Arrival): AsyncGenerator<Uint8Array> {
    let n_bytes = 0;
    try {
      for await (const chunk of arrival.chunks(this.#options.signal)) {
        n_bytes += chunk.byteLength;
        yield chunk;
      }
      return;
    } catch (error) {
      if (this.#options.signal.aborted) throw abortError();
      if (this.#keeps(file) && error === arrival.failure) throw error;
    }
    const remote = await openRemote(this.#url(file), { ...arrival.remote, n: n_bytes }, this.#options);
    // without tags nobody can tell more than by the size
    const is_same = remote?.bytes === arrival.remote.bytes && remote.tag === arrival.remote.tag;
    if (!is_same) throw makeError("network", `${file}: it changed on the server while it was fetched`, { url: this.#url(file) });
    yield* after(n_bytes - remote.from, remote.chunks);
  }

  async #clear(file: string): Promise<void> {
    if (this.#keeps(file)) await this.#try(() => this.#begin().then(() => store.deleteFiles(this.#key, [file])), file);
  }

  /** Marks the file as whole once it has passed its checks, and drops it if it has not. */
  async *#checked(file: string, sha256: string | null, chunks: AsyncIterable<Uint8Array>, writer: FileWriter): AsyncGenerator<Uint8Array> {
    try {
      yield* verified(chunks, sha256, file, this.#options.verify);
    } catch (error) {
      if ((error as { code?: string }).code === "integrity") await this.drop(file);
      throw error;
    }
    if (this.#keeps(file)) await this.#try(() => writer.finish(), file);
  }

  /** Does something with the cache, if it works, for the sake of a file that is to be kept, if it is one. */
  async #try<T>(action: () => Promise<T>, file?: string): Promise<T | undefined> {
    if (!this.#works) return undefined;
    try {
      return await action();
    } catch (error) {
      // several may be under way when one of them finds out
      if (this.#works && (file === undefined || this.#keeps(file))) await this.#giveUp(error);
      return undefined;
    }
  }

  async #giveUp(error: unknown): Promise<void> {
    if (!store.isFull(error)) this.#works = false;
    else if (this.#has_room) {
      this.#has_room = false;
      // weights that cannot become whole only take room that their packed form may need
      const files = await store.filesOf(this.#key).catch(() => []);
      await store.deleteFiles(this.#key, files.map((f) => f.file).filter(store.isWeights)).catch(() => undefined);
    } else return;
    this.#stop.abort();
    this.#options.warn(`not cached: ${reason(error)}`);
  }
}

/** Why something could not be kept, for people. */
function reason(error: unknown): string {
  const { name, message } = error as Error;
  const what = store.isFull(error) ? "the browser's storage is full" : "IndexedDB cannot be used";
  return `${what} (${message || name})`;
}
