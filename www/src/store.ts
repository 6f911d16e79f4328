/**
 * The cache of downloaded checkpoints in IndexedDB.
 *
 * A file is kept in chunks as they arrive, each in one transaction with the entry that counts it, so that a crash
 * leaves a file that can be gone on with. A file is marked whole after its last byte has been checked and a model after
 * its last file: what is listed is whole.
 */

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { CachedModel } from "./types.js";

/** What is kept of a file. */
export interface FileEntry {
  model: string;
  file: string;
  /** Bytes kept; `null`: the server does not have this (optional) file. */
  n_bytes: number | null;
  n_chunks: number;
  /** Whether that is all of it. */
  whole: boolean;
  /** Whether it was checked as it came (`verify`). */
  checked: boolean;
  /** Which version of the file on the server. */
  bytes: number | null;
  tag: string | null;
  sha256: string | null;
}

interface ModelEntry {
  model: string;
  name: string;
  revision: string;
  saved_at: string;
}

interface Schema extends DBSchema {
  models: { key: string; value: ModelEntry };
  files: { key: [string, string]; value: FileEntry };
  chunks: { key: [string, string, number]; value: Uint8Array<ArrayBuffer> };
}

const DATABASE = "gpt2-web";
const LAYOUT_VERSION = 1;

/** Bytes of one stored chunk: the most that is fetched again after a crash. */
export const CHUNK_BYTES = 4 << 20;

let database: Promise<IDBPDatabase<Schema>> | undefined;

function open(): Promise<IDBPDatabase<Schema>> {
  database ??= openDB<Schema>(DATABASE, LAYOUT_VERSION, {
    upgrade(db) {
      db.createObjectStore("models", { keyPath: "model" });
      db.createObjectStore("files", { keyPath: ["model", "file"] });
      db.createObjectStore("chunks");
    },
    // another tab with a newer version waits for this one to let go
    blocking(_current, _blocked, event) {
      database = undefined;
      (event.target as IDBDatabase).close();
    },
    terminated: () => (database = undefined),
  });
  // a failure is told to whoever asked, and tried again next time
  database.catch(() => (database = undefined));
  return database;
}

/** All keys that begin with `prefix`: arrays sort after every string and number. */
const under = (...prefix: string[]) => IDBKeyRange.bound(prefix, [...prefix, []]);

/** What is known of a file: whole, in part, known to be absent, or nothing (`undefined`). */
export async function findFile(model: string, file: string): Promise<FileEntry | undefined> {
  const tx = (await open()).transaction("files");
  tx.done.catch(() => undefined); // a failure comes out of the read itself
  return tx.store.get([model, file]);
}

/** The chunks that are kept of a file, in order. */
export async function* readFile(entry: FileEntry): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const db = await open();
  for (let i = 0; i < entry.n_chunks; i++) {
    const tx = db.transaction("chunks");
    tx.done.catch(() => undefined); // a failure comes out of the read itself
    const chunk = await tx.store.get([entry.model, entry.file, i]);
    if (!chunk) throw new Error(`chunk ${i} of ${entry.n_chunks} of ${entry.file} is missing from the cache`);
    yield chunk;
  }
}

/** Writes one file, chunk by chunk, from its beginning or from where an earlier visit left it. */
export class FileWriter {
  #entry: FileEntry;
  /** Pieces that do not fill a chunk yet. */
  #held: Uint8Array[] = [];
  #held_bytes = 0;

  constructor(entry: Omit<FileEntry, "n_bytes" | "n_chunks" | "whole">, kept: FileEntry | undefined) {
    this.#entry = { ...entry, n_bytes: kept?.n_bytes ?? 0, n_chunks: kept?.n_chunks ?? 0, whole: false };
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#held.push(bytes);
    this.#held_bytes += bytes.byteLength;
    if (this.#held_bytes >= CHUNK_BYTES) await this.flush();
  }

  /** Marks the file as whole. */
  async finish(): Promise<void> {
    await this.flush();
    const entry = { ...this.#entry, whole: true };
    const tx = await this.#begin();
    await Promise.all([tx.objectStore("files").put(entry), tx.done]);
    this.#entry = entry;
  }

  /** A transaction in which the file is as this writer left it: somebody may have deleted it, or write it as well. */
  async #begin() {
    const { model, file, n_chunks, n_bytes } = this.#entry;
    const tx = (await open()).transaction(["files", "chunks"], "readwrite");
    const now = await tx.objectStore("files").get([model, file]);
    if ((now?.n_chunks ?? 0) === n_chunks && (now?.n_bytes ?? 0) === n_bytes) return tx;
    tx.done.catch(() => undefined); // it is aborted on purpose
    tx.abort();
    throw new Error(`${file} was deleted, or is written by another tab`);
  }

  /** Keeps what has come so far. */
  async flush(): Promise<void> {
    if (this.#held_bytes === 0) return;
    const chunk = new Uint8Array(this.#held_bytes);
    let at = 0;
    for (const piece of this.#held) {
      chunk.set(piece, at);
      at += piece.byteLength;
    }
    [this.#held, this.#held_bytes] = [[], 0];
    const { model, file, n_chunks, n_bytes } = this.#entry;
    const entry = { ...this.#entry, n_chunks: n_chunks + 1, n_bytes: (n_bytes ?? 0) + at };
    const tx = await this.#begin();
    await Promise.all([tx.objectStore("chunks").put(chunk, [model, file, n_chunks]), tx.objectStore("files").put(entry), tx.done]);
    this.#entry = entry;
  }
}

/** Remembers that the server does not have an optional file, so that an offline visit need not ask. */
export async function markAbsent(model: string, file: string): Promise<void> {
  const nothing = { n_bytes: null, n_chunks: 0, whole: true, checked: true, bytes: null, tag: null, sha256: null };
  await (await open()).put("files", { model, file, ...nothing });
}

/** Forgets a file, whole or in part. */
export async function deleteFile(model: string, file: string): Promise<void> {
  const tx = (await open()).transaction(["files", "chunks"], "readwrite");
  await Promise.all([tx.objectStore("files").delete([model, file]), tx.objectStore("chunks").delete(under(model, file)), tx.done]);
}

/** Marks a model as whole: all its files are there. */
export async function markComplete(model: string, name: string, revision: string): Promise<void> {
  await (await open()).put("models", { model, name, revision, saved_at: new Date().toISOString() });
}

/** Whether a model is whole in the cache. */
export async function isComplete(model: string): Promise<boolean> {
  return (await (await open()).getKey("models", model)) !== undefined;
}

/** The models that are whole in the cache. */
export async function listComplete(): Promise<(CachedModel & { model: string })[]> {
  const db = await open();
  const models = await db.getAll("models");
  return Promise.all(
    models.map(async ({ model, name, revision, saved_at }) => {
      const files = (await db.getAll("files", under(model))).filter((f) => f.n_bytes !== null);
      const bytes = files.reduce((sum, f) => sum + (f.n_bytes ?? 0), 0);
      return { model, name, revision, bytes, files: files.map((f) => f.file), saved_at };
    }),
  );
}

/** Deletes everything that is kept of a model. */
export async function deleteAll(model: string): Promise<void> {
  const tx = (await open()).transaction(["models", "files", "chunks"], "readwrite");
  // the entry goes first: what is listed is whole
  await Promise.all([
    tx.objectStore("models").delete(model),
    tx.objectStore("files").delete(under(model)),
    tx.objectStore("chunks").delete(under(model)),
    tx.done,
  ]);
}
