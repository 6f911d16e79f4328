/**
 * The cache of checkpoints in IndexedDB.
 *
 * A file is kept in chunks as they arrive, each in one transaction with the entry that counts it, so that a crash
 * leaves a file whose download can go on. A file is marked whole after its last byte has been checked. A model is whole
 * if its weights are, either as the checkpoint has them or as they were packed. This is not stored but found out from
 * the files: whoever deletes some of them would have to write it, which a full storage may refuse.
 */

import { type DBSchema, type IDBPDatabase, type IDBPTransaction, openDB } from "idb";
import type { CachedModel } from "../api/types.js";
import { readStream } from "./read-stream.js";
import { release } from "./release.js";
import { holdsWeights, isWeights, packedParts } from "./weight-files.js";

/** What is kept of a file. */
export interface FileEntry {
  model: string;
  file: string;
  /** Bytes kept; `null`: the server does not have this (optional) file. */
  n_bytes: number | null;
  n_chunks: number;
  /** Whether that is the whole file. */
  whole: boolean;
  /** Whether it was checked as it came (`verify`). */
  checked: boolean;
  /** Which version of the file this is: its size, tag and digest, as the server gave them. */
  bytes: number | null;
  tag: string | null;
  sha256: string | null;
  /** Whether the file is to be checked at a later visit, since its SHA-256 could not be asked for. */
  unverified?: boolean;
  /** What was left out or replaced when packed weights were made. */
  warnings?: string[];
}

/** What is kept of a model. It exists from the model's first file on. */
interface ModelEntry {
  model: string;
  name: string;
  revision: string;
  /** When its download began. */
  saved_at: string;
  /** The checkpoint's own weights, once they were all read; some of them may be gone since. */
  originals: string[];
  /** Bytes of all of the checkpoint's own weights, where that is known before they have arrived. */
  weight_bytes: number | null;
}

/** A part of a file. Blobs can be large, since they need not be read whole, and are read several times as fast. */
export type Chunk = Uint8Array<ArrayBuffer> | Blob;

interface Schema extends DBSchema {
  models: { key: string; value: ModelEntry };
  files: { key: [string, string]; value: FileEntry };
  chunks: { key: [string, string, number]; value: Chunk };
  /** What was measured on a GPU, by adapter, format and model shape. */
  tunings: { key: string; value: string };
}

/** A transaction in which anything may change. */
export type Change = IDBPTransaction<Schema, ["models", "files", "chunks"], "readwrite">;

const DATABASE = "gpt2-web";
const LAYOUT_VERSION = 3;

let database: Promise<IDBPDatabase<Schema>> | undefined;

function open(): Promise<IDBPDatabase<Schema>> {
  database ??= openNow();
  // A failure is told to whoever asked; the next call tries again.
  database.catch(() => (database = undefined));
  return database;
}

/** As a promise whatever happens: where storage is forbidden, IndexedDB throws at once. */
async function openNow(): Promise<IDBPDatabase<Schema>> {
  return openDB<Schema>(DATABASE, LAYOUT_VERSION, {
    async upgrade(db, from, _to, tx) {
      if (from < 1) {
        db.createObjectStore("models", { keyPath: "model" });
        db.createObjectStore("files", { keyPath: ["model", "file"] });
        db.createObjectStore("chunks");
      } else if (from < 2) await fromVersion1(tx as unknown as Change);
      if (from < 3) db.createObjectStore("tunings");
    },
    // A tab with a newer version of the package waits until this one closes the database.
    blocking(_current, _blocked, event) {
      database = undefined;
      (event.target as IDBDatabase).close();
    },
    terminated: () => (database = undefined),
  });
}

/** Whether anything can be kept here: not on a server, and not in a sandboxed frame, whose origin has no storage. */
export async function canKeep(): Promise<boolean> {
  return open().then(
    () => true,
    (error: unknown) => (error as Error).name !== "SecurityError" && typeof indexedDB !== "undefined",
  );
}

/** Version 1 had entries of whole models only. Files of a model without an entry are deleted: they cannot be listed. */
async function fromVersion1(tx: Change): Promise<void> {
  const models = new Map((await tx.objectStore("models").getAll()).map((entry) => [entry.model, entry]));
  for (const entry of models.values()) Object.assign(entry, { originals: [], weight_bytes: null });
  for (const { model, file } of await tx.objectStore("files").getAll()) {
    const entry = models.get(model);
    if (!entry) await forget(tx, model, file);
    else if (isWeights(file)) entry.originals.push(file);
  }
  for (const entry of models.values()) await tx.objectStore("models").put(entry);
}

/** All keys that begin with `prefix`: the empty array sorts after every string and number. */
const under = (...prefix: string[]) => IDBKeyRange.bound(prefix, [...prefix, []]);

/** Whether an error says that the storage is full. */
export const isFull = (error: unknown) => (error as Error).name === "QuotaExceededError";

/**
 * Which formats' packed weights are whole, and whether the checkpoint's own weights are, from which those of any format
 * can be made.
 */
function weightsOf(entry: ModelEntry, files: FileEntry[]): { dtypes: string[]; hasOriginals: boolean } {
  const whole = new Set(files.filter((f) => f.whole && f.n_bytes !== null).map((f) => f.file));
  const dtypes = new Set([...whole].flatMap((file) => packedParts(file)?.dtype ?? []));
  const hasOriginals = entry.originals.length > 0 && entry.originals.every((file) => whole.has(file));
  return { dtypes: [...dtypes].sort(), hasOriginals: hasOriginals };
}

/** Starts a transaction in which anything may change. */
export async function change(): Promise<Change> {
  return (await open()).transaction(["models", "files", "chunks"], "readwrite");
}

/** Waits for the work of a transaction and for the transaction itself; throws what fails in either. */
export async function settle(tx: Change, work: Promise<unknown>): Promise<void> {
  await Promise.all([work, tx.done]);
}

/** What is known of a file: whole, in part, known to be absent, or nothing (`undefined`). */
export async function findFile(model: string, file: string): Promise<FileEntry | undefined> {
  const tx = (await open()).transaction("files");
  tx.done.catch(() => undefined); // a failure comes out of the read itself
  return tx.store.get([model, file]);
}

/** What is known of each file of a model. */
export async function filesOf(model: string): Promise<FileEntry[]> {
  return (await open()).getAll("files", under(model));
}

/** One chunk of what is kept of a file. */
async function readChunk(model: string, file: string, i: number): Promise<Chunk> {
  const tx = (await open()).transaction("chunks");
  tx.done.catch(() => undefined); // a failure comes out of the read itself
  const chunk = await tx.store.get([model, file, i]);
  if (!chunk) throw new Error(`chunk ${i} of ${file} is missing from the cache`);
  return chunk;
}

/**
 * The bytes of a file's stored chunks from `first` up to `end`, in order; each piece is there until the next one is
 * asked for.
 */
export async function* readChunks(
  { model, file }: Pick<FileEntry, "model" | "file">,
  [first, end]: [number, number],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  // While a chunk is used, the next one is read already.
  let next = first < end ? readChunk(model, file, first) : undefined;
  for (let i = first; next; i++) {
    const chunk = await next;
    next = i + 1 < end ? readChunk(model, file, i + 1) : undefined;
    next?.catch(() => undefined); // a failure is thrown when its turn comes
    if (chunk instanceof Blob) {
      yield* readStream(chunk.stream(), signal);
    } else {
      yield chunk;
      release(chunk);
    }
  }
}

let blobsAreKept: Promise<boolean> | undefined;

/** Whether this browser can keep blobs: some cannot in a private window. */
export function keepsBlobs(): Promise<boolean> {
  blobsAreKept ??= tryBlob().catch(() => false);
  return blobsAreKept;
}

async function tryBlob(): Promise<boolean> {
  const tx = await change();
  tx.done.catch(() => undefined); // a failure comes out of `settle`
  const chunks = tx.objectStore("chunks");
  const key: [string, string, number] = ["", "", 0];
  const work = async () => {
    await chunks.put(new Blob(["?"]), key);
    await chunks.delete(key);
  };
  await settle(tx, work());
  return true;
}

/** What was measured on a GPU and kept under this name. */
export async function findTuning(key: string): Promise<string | undefined> {
  const tx = (await open()).transaction("tunings");
  tx.done.catch(() => undefined); // a failure comes out of the read itself
  const tuning: unknown = await tx.store.get(key);
  return typeof tuning === "string" ? tuning : undefined;
}

/** Keeps what was measured on a GPU. */
export async function keepTuning(key: string, tuning: string): Promise<void> {
  await (await open()).put("tunings", tuning, key);
}

/** Makes an entry for a model that has none yet. */
export async function begin(model: string, name: string, revision: string): Promise<void> {
  const tx = await change();
  const models = tx.objectStore("models");
  const work = async () => {
    if (await models.get(model)) return;
    await models.put({ model, name, revision, saved_at: new Date().toISOString(), originals: [], weight_bytes: null });
  };
  await settle(tx, work());
}

/** Remembers that the server does not have an optional file, so that an offline visit need not ask. */
export async function markAbsent(model: string, file: string): Promise<void> {
  const nothing = { n_bytes: null, n_chunks: 0, whole: true, checked: true, bytes: null, tag: null, sha256: null };
  await (await open()).put("files", { model, file, ...nothing });
}

/** Forgets a file, whole or in part, within a transaction. */
export async function forget(tx: Change, model: string, file: string): Promise<void> {
  await Promise.all([
    tx.objectStore("files").delete([model, file]),
    tx.objectStore("chunks").delete(under(model, file)),
  ]);
}

/** Forgets files, whole or in part. */
export async function deleteFiles(model: string, files: string[]): Promise<void> {
  const tx = await change();
  await settle(tx, Promise.all(files.map((file) => forget(tx, model, file))));
}

/** Notes that these files, which a visit has read to their end, are all of the checkpoint's own weights. */
export async function noteOriginals(model: string, originals: string[]): Promise<void> {
  await amend(model, { originals });
}

/** Notes how many bytes the checkpoint's own weights have in all. */
export async function noteWeightBytes(model: string, weightBytes: number): Promise<void> {
  await amend(model, { weight_bytes: weightBytes });
}

/** Changes a model's entry; one that was deleted meanwhile stays deleted. */
async function amend(model: string, fields: Partial<ModelEntry>): Promise<void> {
  const tx = await change();
  const models = tx.objectStore("models");
  const work = async () => {
    const entry = await models.get(model);
    if (entry) await models.put({ ...entry, ...fields });
  };
  await settle(tx, work());
}

/** When the download of a model began that is whole now; `undefined` for others. */
export async function wholeSince(model: string): Promise<string | undefined> {
  const entry = await (await open()).get("models", model);
  return entry && (await isComplete(model)) ? entry.saved_at : undefined;
}

/** Whether a model can be loaded without the network: in one number format, or in any. */
export async function isComplete(model: string, dtype?: string): Promise<boolean> {
  const entry = await (await open()).get("models", model);
  if (!entry) return false;
  const { dtypes, hasOriginals } = weightsOf(entry, await filesOf(model));
  return hasOriginals || (dtype === undefined ? dtypes.length > 0 : dtypes.includes(dtype));
}

/** Every model of whose weights something is kept. */
export async function list(): Promise<(CachedModel & { model: string })[]> {
  const db = await open();
  const listed = (await db.getAll("models")).map(async (entry) => {
    const { model, name, revision, saved_at, weight_bytes } = entry;
    const files = (await filesOf(model)).filter((f) => f.n_bytes !== null);
    const { dtypes, hasOriginals } = weightsOf(entry, files);
    const complete = hasOriginals || dtypes.length > 0;
    const sum = (count: (f: FileEntry) => number | null) => files.reduce((n, f) => n + (count(f) ?? 0), 0);
    const bytes = sum((f) => f.n_bytes);
    const known = sum((f) => f.bytes ?? f.n_bytes);
    const told = sum((f) => (isWeights(f.file) ? 0 : f.n_bytes)) + (weight_bytes ?? 0);
    const totalBytes = complete ? bytes : Math.max(known, told);
    const isBegun = files.some((f) => holdsWeights(f.file));
    return complete || isBegun
      ? [
          {
            model,
            name,
            revision,
            saved_at,
            complete,
            dtypes,
            bytes,
            total_bytes: totalBytes,
            files: files.map((f) => f.file),
          },
        ]
      : [];
  });
  return (await Promise.all(listed)).flat();
}

/** Deletes everything that is kept of a model. */
export async function deleteAll(model: string): Promise<void> {
  const tx = await change();
  // The entry goes first, so that what is listed as whole is whole.
  await settle(
    tx,
    Promise.all([
      tx.objectStore("models").delete(model),
      tx.objectStore("files").delete(under(model)),
      tx.objectStore("chunks").delete(under(model)),
    ]),
  );
}
