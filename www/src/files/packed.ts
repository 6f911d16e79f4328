/** Keeping packed weights, in place of the files that they were made from. */

import { abortError } from "../api/errors.js";
import { FileWriter } from "./file-writer.js";
import type { PackedWeights } from "./hub.js";
import * as store from "./store.js";
import { packedParts } from "./weight-files.js";

/** A packed file to be kept. */
export interface Packed extends PackedWeights {
  /** The cache's key of its model. */
  model: string;
  /** Whether those files were dropped because the storage is full. */
  wasFull: boolean;
  checked: boolean;
  signal: AbortSignal;
}

/** Browsers do not free the room of deleted files at once: how many times writing is tried again, and the waits. */
const [N_TRIES, WAIT_MS] = [8, 250];

/** Whether what is kept are whole packed weights of the same kind as `name` in an older layout. */
export function isOlder({ file, whole }: store.FileEntry, name: string): boolean {
  const [own, other] = [packedParts(name), packedParts(file)];
  return whole && own !== null && other?.layout === own.layout && other.version < own.version;
}

/**
 * Writes the file, marks it as whole and, in the same transaction, forgets the files that it replaces, and packed
 * weights in an older layout. If the storage has no room for both, what is replaced is deleted first.
 * If the file cannot be kept, nothing of it is left.
 */
export async function keepPacked({
  model,
  name,
  bytes,
  chunks,
  replaces,
  warnings,
  wasFull,
  checked,
  signal,
}: Packed): Promise<void> {
  const isStale = ({ file, whole }: store.FileEntry) => file === name || (packedParts(file) !== null && !whole);
  const files = await store.filesOf(model);
  const replaced = files.filter((f) => replaces.includes(f.file) || isOlder(f, name));
  const replacedNames = replaced.map((f) => f.file);
  const nReplaced = replaced.reduce((sum, f) => sum + (f.n_bytes ?? 0), 0);
  let nTries = wasFull || nReplaced >= bytes ? N_TRIES : 0;
  const makeRoom = async () => {
    if (nTries === 0 || signal.aborted) return false;
    nTries -= 1;
    await store.deleteFiles(model, replacedNames);
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    return true;
  };
  try {
    await store.deleteFiles(
      model,
      files.filter(isStale).map((f) => f.file),
    );
    // Where room is freed bit by bit, Chrome takes small chunks of bytes earlier than it takes large blobs.
    const entry = { model, file: name, bytes, tag: null, sha256: null, checked, warnings };
    const writer = new FileWriter(entry, undefined, { asBlobs: !wasFull, makeRoom });
    for await (const chunk of chunks) {
      if (signal.aborted) throw abortError();
      await writer.write(chunk);
    }
    await writer.flush();
    if (writer.entry.n_bytes !== bytes) throw new Error(`expected ${bytes} bytes, found ${writer.entry.n_bytes}`);
    await writer.finish(replacedNames);
  } catch (error) {
    await store.deleteFiles(model, [name]).catch(() => undefined);
    throw error;
  }
}
