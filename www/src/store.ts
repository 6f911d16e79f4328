/**
 * The cache of downloaded checkpoints in IndexedDB.
 *
 * A file is kept in chunks as they arrive; its entry is written after its last chunk and a model's after its last
 * file, so that what is listed is whole.
 */

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { CachedModel } from "./types.js";

interface FileEntry {
  model: string;
  file: string;
  /** `null`: the server does not have this (optional) file. */
  bytes: number | null;
  n_chunks: number;
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

/** Bytes of one stored chunk. */
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
    blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
    terminated: () => (database = undefined),
  });
  // a failure is told to whoever asked, and tried again next time
  database.catch(() => (database = undefined));
  return database;
}

/** All keys that begin with `prefix`: arrays sort after every string and number. */
const under = (...prefix: string[]) => IDBKeyRange.bound(prefix, [...prefix, []]);

/** What is known of a file: whole in the cache, known to be absent, or nothing (`undefined`). */
export async function findFile(model: string, file: string): Promise<FileEntry | undefined> {
  return (await open()).get("files", [model, file]);
}

/** The chunks of a whole file, in order. */
export async function* readFile(entry: FileEntry): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const db = await open();
  for (let i = 0; i < entry.n_chunks; i++) {
    const chunk = await db.get("chunks", [entry.model, entry.file, i]);
    if (!chunk) throw new Error(`chunk ${i} of ${entry.n_chunks} of ${entry.file} is missing from the cache`);
    yield chunk;
  }
}

/** Writes one file, chunk by chunk. */
export class FileWriter {
  #model: string;
  #file: string;
  #n_chunks = 0;
  #bytes = 0;
  /** Pieces that do not fill a chunk yet. */
  #held: Uint8Array[] = [];
  #held_bytes = 0;

  constructor(model: string, file: string) {
    this.#model = model;
    this.#file = file;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#held.push(bytes);
    this.#held_bytes += bytes.byteLength;
    if (this.#held_bytes >= CHUNK_BYTES) await this.#flush();
  }

  /** Marks the file as whole. */
  async finish(): Promise<void> {
    if (this.#held_bytes > 0) await this.#flush();
    const entry = { model: this.#model, file: this.#file, bytes: this.#bytes, n_chunks: this.#n_chunks };
    await (await open()).put("files", entry);
  }

  async #flush(): Promise<void> {
    const chunk = new Uint8Array(this.#held_bytes);
    let at = 0;
    for (const piece of this.#held) {
      chunk.set(piece, at);
      at += piece.byteLength;
    }
    await (await open()).put("chunks", chunk, [this.#model, this.#file, this.#n_chunks]);
    this.#n_chunks += 1;
    this.#bytes += at;
    [this.#held, this.#held_bytes] = [[], 0];
  }
}

/** Remembers that the server does not have an optional file, so that an offline visit need not ask. */
export async function markAbsent(model: string, file: string): Promise<void> {
  await (await open()).put("files", { model, file, bytes: null, n_chunks: 0 });
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
      const files = (await db.getAll("files", under(model))).filter((f) => f.bytes !== null);
      const bytes = files.reduce((sum, f) => sum + (f.bytes ?? 0), 0);
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

/** Every model of which anything is kept, whole or not. */
export async function listKept(): Promise<string[]> {
  const files = await (await open()).getAllKeys("files");
  const models = await (await open()).getAllKeys("models");
  return [...new Set([...models, ...files.map(([model]) => model)])];
}
