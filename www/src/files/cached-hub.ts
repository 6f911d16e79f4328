/** The files of a checkpoint through the cache: from there, or from the network into it. Runs in the worker. */

import { abortError, isAbort, makeError } from "../api/errors.js";
import type { WireModel } from "../api/messages.js";
import { fileUrl } from "./address.js";
import { Arrival, after } from "./arrival.js";
import { askDigest, checked, checkedPieces } from "./digest.js";
import { FileWriter } from "./file-writer.js";
import { checkFresh } from "./freshness.js";
import { changedError, openRemote, type Remote, versionOf } from "./http.js";
import type { FileSize, Hub, HubOptions, OpenFile, PackedWeights } from "./hub.js";
import type { PublishedWeights } from "./manifest.js";
import { ModelCache, type Place, whyNotKept } from "./model-cache.js";
import { isOlder, keepPacked } from "./packed.js";
import type { Refusal } from "./request.js";
import { isOther, isSame, type Version } from "./response.js";
import * as store from "./store.js";
import { holdsWeights, isWeights, packedParts } from "./weight-files.js";

/** Files that are fetched at once: a browser allows six connections to a host. */
const MAX_AT_ONCE = 4;

/** Published weights whose download is at least so large are judged by how fast so much of it came. */
const JUDGED_BYTES = 16 << 20;

/** What is left of them is not stored on the way, which would slow it down, if it comes within this time. */
const SOON_MS = 10_000;

/** Where a file is: all of it in the cache (`remote: null`), or on the server from the byte on at which `kept` ends. */
type Whereabouts = { kept: store.FileEntry; remote: null } | { kept: store.FileEntry | undefined; remote: Remote };

/** Reads through the cache. Where the cache fails, files come from the network alone. */
export class CachedHub implements Hub {
  #base: string;
  #options: HubOptions;
  #cache: ModelCache;
  /** Every file that was opened. */
  #opened = new Set<string>();
  #arrivals = new Map<string, Promise<Arrival | Whereabouts | null>>();
  /** The check of the small files, once it has begun. */
  #freshness: Promise<void> | undefined;
  /** Files that the server has said it does not have. */
  #absent = new Set<string>();
  #refusals = new Map<string, Refusal>();
  /** The packed weights that are to come from the model's folder, by name. */
  #published = new Map<string, PublishedWeights>();
  /** Those of them that come too fast to be stored on the way; `keepPacked` stores them when the model can write. */
  #fast = new Set<string>();
  /** Files whose SHA-256 could not be asked for. */
  #unverified = new Set<string>();
  /** Stops the arrivals. */
  #stop = new AbortController();

  constructor(model: WireModel & { kind: "url" }, place: Place, options: HubOptions) {
    [this.#base, this.#options] = [model.base, options];
    this.#cache = new ModelCache(model, place, (warning) => {
      this.#stop.abort();
      options.warn(warning);
    });
    options.signal.addEventListener("abort", () => this.#stop.abort(), { once: true });
  }

  async open(file: string): Promise<OpenFile | null> {
    this.#opened.add(file);
    const place = await this.#place(file);
    if (place instanceof Arrival) {
      const { remote, writer } = place;
      const chunks = this.#checked(file, remote.sha256, this.#follow(file, place), writer);
      return { name: file, bytes: remote.bytes, chunks };
    }
    if (place === null) {
      this.#opened.delete(file);
      return null;
    }
    const { kept, remote } = place;
    if (remote) {
      const writer = this.#writer(file, remote, kept);
      const chunks = this.#checked(file, remote.sha256, this.#keep(file, remote, kept, writer), writer);
      return { name: file, bytes: remote.bytes, chunks };
    }
    const chunks = kept.whole
      ? this.#read(kept)
      : this.#checked(file, kept.sha256, this.#read(kept), this.#writer(file, kept, kept));
    return { name: file, bytes: kept.n_bytes, chunks };
  }

  async size(file: string, maxAttempts?: number): Promise<FileSize | null> {
    const kept = await this.#cache.find(file);
    const cached = kept?.n_bytes ?? 0;
    const isThere = kept?.whole && kept.n_bytes !== null;
    if (isThere || (kept?.whole && (await this.#cache.isComplete()))) return isThere ? { bytes: cached, cached } : null;
    const found = await versionOf(this.#url(file), this.#options, maxAttempts);
    if (found && !("refusal" in found)) return { bytes: found.about ?? kept?.bytes ?? null, cached };
    if (found) this.#refusals.set(file, found.refusal);
    else this.#absent.add(file);
    return null;
  }

  refusal(file: string): Refusal | undefined {
    return this.#refusals.get(file);
  }

  names(): null {
    return null;
  }

  async packedSizes(): Promise<{ name: string; bytes: number }[]> {
    const files = (await this.#cache.try(() => store.filesOf(this.#cache.key))) ?? [];
    const isUsable = (f: store.FileEntry) => f.whole && packedParts(f.file) && (f.checked || !this.#options.verify);
    return files.filter(isUsable).map((f) => ({ name: f.file, bytes: f.n_bytes ?? 0 }));
  }

  prefetch(files: string[], bytes: number | null): void {
    if (!this.#cache.works || !this.#cache.hasRoom) return;
    if (bytes !== null)
      void this.#cache.try(() => this.#cache.begin().then(() => store.noteWeightBytes(this.#cache.key, bytes)));
    const ends: Promise<unknown>[] = [];
    files.forEach((file, i) => {
      // Each begins when the file MAX_AT_ONCE places before it is there.
      const arrival = Promise.resolve(ends[i - MAX_AT_ONCE]).then(() => this.#arrive(file));
      this.#arrivals.set(file, arrival);
      const end = arrival.then((it) => (it instanceof Arrival ? it.end : undefined));
      ends.push(end.catch(() => undefined)); // `open` throws the failure
    });
  }

  async openPacked(name: string): Promise<OpenFile | null> {
    const kept = await this.#cache.find(name);
    if (!kept?.whole || kept.n_bytes === null || (this.#options.verify && !kept.checked)) return null;
    return { name, bytes: kept.n_bytes, chunks: this.#read(kept), warnings: kept.warnings ?? [] };
  }

  async openPublished(published: PublishedWeights): Promise<OpenFile | null> {
    const { name, sha256, warnings } = published;
    this.#published.set(name, published);
    const kept = await this.#cache.find(name);
    if (kept && !kept.whole && kept.sha256 !== sha256) await this.#cache.clear(name); // a part of another version
    const file = await this.open(name);
    return file && { ...file, warnings };
  }

  async confirm(file: string): Promise<void> {
    const kept = await this.#cache.find(file);
    if (kept?.n_bytes && (await this.#cache.isComplete())) {
      await checkFresh([kept], (file) => this.#url(file), this.#options);
    }
  }

  async keepPacked(packed: PackedWeights): Promise<void> {
    if (!this.#cache.works || (this.#published.has(packed.name) && !this.#fast.has(packed.name))) return;
    // What was made of unverified files could never be verified, so the files themselves are kept.
    if (packed.replaces.some((file) => this.#unverified.has(file))) return;
    const { verify: checked, signal, warn } = this.#options;
    try {
      await this.#cache.begin();
      const whole = new Set((await store.filesOf(this.#cache.key)).filter((f) => f.whole).map((f) => f.file));
      // Without the model's small files, packed weights could not be loaded and would only take room.
      if ([...this.#opened].some((file) => !holdsWeights(file) && !whole.has(file))) return;
      await keepPacked({ ...packed, model: this.#cache.key, wasFull: !this.#cache.hasRoom, checked, signal });
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw abortError();
      warn(`${packed.name}: not cached: ${whyNotKept(error)}`);
    }
  }

  async complete(): Promise<void> {
    const originals = [...this.#opened].filter(isWeights);
    if (originals.length > 0) await this.#cache.try(() => store.noteOriginals(this.#cache.key, originals));
    await this.#cache.takeOver();
  }

  async drop(file: string): Promise<void> {
    await this.#cache.drop(file);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const arrival of this.#arrivals.values()) {
      const it = await arrival.catch(() => null);
      if (it instanceof Arrival) await it.end;
    }
  }

  #url(file: string): string {
    return fileUrl(file, this.#base);
  }

  #writer(
    file: string,
    { bytes, tag, sha256 }: Version & { sha256: string | null },
    kept: store.FileEntry | undefined,
  ): FileWriter {
    const published = this.#published.get(file);
    const entry = {
      ...{ model: this.#cache.key, file, bytes, tag, checked: this.#options.verify },
      sha256: published?.sha256 ?? sha256,
      unverified: this.#unverified.has(file),
      ...(published ? { warnings: published.warnings } : {}),
    };
    return new FileWriter(entry, kept);
  }

  /** Where a file is, or the download of it that is under way. */
  async #place(file: string): Promise<Arrival | Whereabouts | null> {
    try {
      const arrival = await this.#arrivals.get(file);
      if (arrival !== undefined) return arrival;
    } catch (error) {
      if (this.#options.signal.aborted || this.#cache.keeps(file)) throw error;
      // The download into the cache was stopped because the file cannot be kept; it begins anew without the cache.
    }
    return this.#locate(file, this.#options);
  }

  /** Finds out where a file is; `null` if there is none of that name. */
  async #locate(file: string, options: HubOptions): Promise<Whereabouts | null> {
    const kept = await this.#cache.find(file);
    const isComplete = kept?.whole ? await this.#cache.isComplete() : false;
    const url = this.#url(file);
    const isAll = kept && kept.n_bytes !== null && (kept.whole || kept.n_bytes === kept.bytes);
    if (isAll && (kept.checked || !options.verify)) {
      // Files of a model that never became whole may have changed on the server since.
      const now = kept.whole && isComplete ? kept : await versionOf(url, options);
      if (now && !("refusal" in now) && (now === kept || isSame(now, kept))) return this.#verifiable(kept, options);
    }
    if ((kept?.n_bytes === null && isComplete) || this.#absent.has(file)) return this.#without(file);
    if (holdsWeights(file)) await this.#checkFresh(options);

    const part = kept && !kept.whole && kept.n_bytes ? { ...kept, n: kept.n_bytes } : null;
    const remote = await openRemote(url, part, options);
    if (!remote || "refusal" in remote) return this.#without(file, remote?.refusal);
    if (remote.unread !== null) this.#warnUnverified(file, remote.unread);
    if (part && remote.from === 0) {
      options.warn(`${file}: the server did not continue the download from byte ${part.n}, so it began anew`);
    }
    return { kept: remote.from > 0 ? kept : undefined, remote };
  }

  /** A file that is not there, or that the server does not give; a visit without a network need not ask for it. */
  async #without(file: string, refusal?: Refusal): Promise<null> {
    if (refusal) this.#refusals.set(file, refusal);
    await this.#cache.try(() => this.#cache.begin().then(() => store.markAbsent(this.#cache.key, file)));
    return null;
  }

  /** A file in the cache; one that could not be verified when it came is verified as it is read now. */
  async #verifiable(kept: store.FileEntry, options: HubOptions): Promise<Whereabouts> {
    if (!kept.unverified || !options.verify) return { kept, remote: null };
    const { sha256, unread } = await askDigest(this.#url(kept.file), options);
    if (unread === null) return { kept: { ...kept, sha256, whole: false }, remote: null };
    this.#warnUnverified(kept.file, unread);
    return { kept, remote: null };
  }

  #warnUnverified(file: string, why: string): void {
    this.#unverified.add(file);
    const later = "it is kept unverified, and verified at a later visit";
    this.#options.warn(`${file}: its SHA-256 could not be asked for (${why}); ${later}`);
  }

  /**
   * Checks, once, that the small files in the cache are still those on the server. Packed weights fit the small files
   * that they came with, but weights that are fetched now fit the ones that the server has now.
   */
  #checkFresh(options: HubOptions): Promise<void> {
    this.#freshness ??= this.#checkSmallFiles(options);
    return this.#freshness;
  }

  async #checkSmallFiles(options: HubOptions): Promise<void> {
    const { key } = this.#cache;
    if (!(await this.#cache.isComplete())) return;
    const kept = (await this.#cache.try(() => store.filesOf(key))) ?? [];
    const small = kept.filter((f) => this.#opened.has(f.file) && !holdsWeights(f.file) && f.n_bytes);
    await checkFresh(small, (file) => this.#url(file), options);
  }

  /** What is kept of a file. If the browser has lost some of it, the rest is of no use and is dropped. */
  async *#read(entry: store.FileEntry): AsyncGenerator<Uint8Array> {
    try {
      yield* store.readChunks(entry, [0, entry.n_chunks], this.#options.signal);
    } catch (error) {
      if (this.#options.signal.aborted) throw abortError();
      await this.drop(entry.file);
      const lost = `the browser has lost a part of what it kept (${(error as Error).message})`;
      const message = `${entry.file}: ${lost}; a retry fetches it again`;
      throw makeError("integrity", message, { file: entry.file });
    }
  }

  /**
   * The file from its first byte: the part that is kept already, then what comes from the network, which is kept too.
   */
  async *#keep(
    file: string,
    remote: Remote,
    part: store.FileEntry | undefined,
    writer: FileWriter,
  ): AsyncGenerator<Uint8Array> {
    if (part) yield* this.#read(part);
    else await this.#cache.clear(file);
    const published = this.#published.get(file);
    const from = performance.now();
    let nBytes = 0;
    try {
      for await (const chunk of remote.chunks) {
        if (this.#keepsOnTheWay(file)) await this.#cache.try(() => writer.write(chunk), file);
        nBytes += chunk.byteLength;
        if (published && nBytes >= JUDGED_BYTES) {
          const nLeft = published.bytes - (part?.n_bytes ?? 0) - nBytes;
          const leftMs = ((performance.now() - from) * nLeft) / nBytes;
          if (leftMs < SOON_MS) this.#fast.add(file);
        }
        yield chunk;
      }
    } finally {
      // Also when the download breaks off, since the next visit goes on from what is stored.
      if (this.#keepsOnTheWay(file)) await this.#cache.try(() => writer.flush(), file);
    }
  }

  #keepsOnTheWay(file: string): boolean {
    return this.#cache.keeps(file) && !this.#fast.has(file);
  }

  /** Begins to fetch a file into the cache, unless it is there. */
  async #arrive(file: string): Promise<Arrival | Whereabouts | null> {
    const options = { ...this.#options, signal: this.#stop.signal };
    if (this.#stop.signal.aborted) throw abortError();
    const place = await this.#locate(file, options);
    if (!place?.remote) return place;
    if (!place.kept) await this.#cache.clear(file);
    return new Arrival(place.remote, this.#writer(file, place.remote, place.kept), async (action) => {
      if (this.#cache.keeps(file)) await this.#cache.try(action, file);
      if (!this.#cache.keeps(file)) throw new Error(`${file} can no longer be kept`);
    });
  }

  /** The chunks of a file that arrives in the cache. If the cache fails, the rest comes straight from the network. */
  async *#follow(file: string, arrival: Arrival): AsyncGenerator<Uint8Array> {
    let nBytes = 0;
    try {
      for await (const chunk of arrival.chunks(this.#options.signal)) {
        nBytes += chunk.byteLength;
        yield chunk;
      }
      return;
    } catch (error) {
      if (this.#options.signal.aborted) throw abortError();
      if (this.#cache.keeps(file) && error === arrival.failure) throw error;
    }
    const remote = await openRemote(this.#url(file), { ...arrival.remote, n: nBytes }, this.#options);
    // Where the server gives no tags, the sizes are all that can be compared.
    if (!remote || "refusal" in remote || isOther(remote, arrival.remote)) throw changedError(file, { file });
    yield* after(nBytes - remote.from, remote.chunks);
  }

  /** Marks the file as whole once it has passed its checks, and drops it if it has not. */
  async *#checked(
    file: string,
    sha256: string | null,
    chunks: AsyncIterable<Uint8Array>,
    writer: FileWriter,
  ): AsyncGenerator<Uint8Array> {
    const published = this.#published.get(file);
    try {
      const { verify, checking, startHash } = this.#options;
      const tell = (nBytes: number, isDone: boolean) => checking(file, nBytes, isDone);
      if (published && verify) yield* checkedPieces(chunks, published, tell);
      else yield* checked(chunks, verify ? sha256 : null, file, { startHash, tell });
    } catch (error) {
      if ((error as { code?: string }).code === "integrity") await this.drop(file);
      throw error;
    }
    if (!this.#keepsOnTheWay(file)) return;
    await this.#cache.try(async () => {
      const older = published ? (await store.filesOf(this.#cache.key)).filter((kept) => isOlder(kept, file)) : [];
      await writer.finish(older.map((kept) => kept.file));
    }, file);
  }
}
