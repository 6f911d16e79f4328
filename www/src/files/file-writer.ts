/** Writes a file of the cache, chunk by chunk. */

import { release } from "./release.js";
import * as store from "./store.js";

/** Bytes of one stored chunk: the most that is fetched again after a crash. */
const CHUNK_BYTES = 4 << 20;

/** Chunks in a blob: 32 MiB are read from the cache several times as fast as 8 times 4 MiB. */
const BLOB_CHUNKS = 8;

/** How to write. */
interface Options {
  /**
   * Whether to store blobs of many chunks, where the browser can keep blobs. For files whose writing does not go on at
   * the next visit.
   */
  asBlobs?: boolean;
  /** Called when the storage is full; says whether to try again. */
  makeRoom?: () => Promise<boolean>;
}

/** Writes one file from its beginning, or from where an earlier visit left it. */
export class FileWriter {
  #entry: store.FileEntry;
  /** The next chunk, filled up to `#nFilled`. */
  #chunk = new Uint8Array(0);
  #nFilled = 0;
  /** The chunk before, which is filled again when it is stored. */
  #spare = new Uint8Array(0);
  /** The storing of that chunk, which goes on while the next one is filled. */
  #storing: Promise<void> | undefined;
  /** Why bytes were lost, if any were; nothing can be written after them. */
  #failure: unknown;

  /** The chunks of the next blob, if blobs are stored. */
  #parts: Blob[] = [];
  #asBlobs: boolean;
  #makeRoom: () => Promise<boolean>;

  constructor(
    entry: Omit<store.FileEntry, "n_bytes" | "n_chunks" | "whole">,
    kept: store.FileEntry | undefined,
    { asBlobs = false, makeRoom = async () => false }: Options = {},
  ) {
    this.#asBlobs = asBlobs;
    this.#makeRoom = makeRoom;
    this.#entry = { ...entry, n_bytes: kept?.n_bytes ?? 0, n_chunks: kept?.n_chunks ?? 0, whole: false };
  }

  /** What is stored by now. */
  get entry(): Readonly<store.FileEntry> {
    return this.#entry;
  }

  /** Takes the next bytes. They are copied, so their memory may be shared and may be overwritten afterwards. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#chunk.byteLength === 0) this.#chunk = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; at < bytes.byteLength; ) {
      const piece = bytes.subarray(at, at + CHUNK_BYTES - this.#nFilled);
      this.#chunk.set(piece, this.#nFilled);
      this.#nFilled += piece.byteLength;
      at += piece.byteLength;
      if (this.#nFilled < CHUNK_BYTES) continue;
      await this.#addPart();
      if (this.#nFilled > 0) await this.#storeBehind();
      else if (this.#parts.length === BLOB_CHUNKS) await this.flush();
    }
  }

  /** Begins to store the full chunk, when the one before is stored. */
  async #storeBehind(): Promise<void> {
    await this.#storing;
    const full = this.#chunk;
    this.#storing = this.#store(full);
    this.#storing.catch(() => undefined); // whoever waits for it next throws the failure
    this.#chunk = this.#spare.byteLength > 0 ? this.#spare : new Uint8Array(CHUNK_BYTES);
    [this.#spare, this.#nFilled] = [full, 0];
  }

  /** Moves what has come so far into the next blob, if blobs are stored. */
  async #addPart(): Promise<void> {
    if (!this.#asBlobs || this.#nFilled === 0 || !(await store.keepsBlobs())) return;
    this.#parts.push(new Blob([this.#chunk.subarray(0, this.#nFilled)]));
    this.#nFilled = 0;
  }

  /** Stores what has come so far. */
  async flush(): Promise<void> {
    await this.#storing;
    await this.#addPart();
    if (this.#parts.length > 0) {
      await this.#store(new Blob(this.#parts));
      this.#parts = [];
    } else if (this.#nFilled > 0) {
      // The part is copied, since IndexedDB stores a view with all of the memory behind it.
      await this.#store(this.#nFilled === CHUNK_BYTES ? this.#chunk : this.#chunk.slice(0, this.#nFilled));
      this.#nFilled = 0;
    }
  }

  async #store(chunk: store.Chunk): Promise<void> {
    const { model, file, n_chunks, n_bytes } = this.#entry;
    const size = chunk instanceof Blob ? chunk.size : chunk.byteLength;
    const entry = { ...this.#entry, n_chunks: n_chunks + 1, n_bytes: (n_bytes ?? 0) + size };
    await this.#put(entry, (tx) => tx.objectStore("chunks").put(chunk, [model, file, n_chunks]));
  }

  /** Marks the file as whole and, in the same moment, forgets the files that it replaces. */
  async finish(replaces: string[] = []): Promise<void> {
    await this.flush();
    const { model } = this.#entry;
    await this.#put({ ...this.#entry, whole: true }, (tx) =>
      Promise.all(replaces.map((file) => store.forget(tx, model, file))),
    );
    release(this.#chunk);
    release(this.#spare);
    [this.#chunk, this.#spare] = [new Uint8Array(0), new Uint8Array(0)];
  }

  /** Stores an entry, and what goes with it, in a transaction that finds the file as this writer left it. */
  async #put(entry: store.FileEntry, more: (tx: store.Change) => Promise<unknown>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    for (;;) {
      try {
        return await this.#tryPut(entry, more);
      } catch (error) {
        if (store.isFull(error) && (await this.#makeRoom())) continue;
        this.#failure = error;
        throw error;
      }
    }
  }

  async #tryPut(entry: store.FileEntry, more: (tx: store.Change) => Promise<unknown>): Promise<void> {
    const tx = await store.change();
    tx.done.catch(() => undefined); // a failure is thrown by `settle`
    const { model, file, n_chunks, n_bytes } = this.#entry;
    const [now, known] = await Promise.all([
      tx.objectStore("files").get([model, file]),
      tx.objectStore("models").getKey(model),
    ]);
    if (known === undefined || (now?.n_chunks ?? 0) !== n_chunks || (now?.n_bytes ?? 0) !== n_bytes) {
      tx.abort();
      throw new Error(`${file} was deleted, or is written by another tab`);
    }
    await store.settle(tx, Promise.all([more(tx), tx.objectStore("files").put(entry)]));
    this.#entry = entry;
  }
}
