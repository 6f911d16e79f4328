/** Whether small files that are kept are still those on the server. */

import { changedError, openRemote, versionOf } from "./http.js";
import { readBytes } from "./hub.js";
import type { HttpOptions } from "./request.js";
import { isOther, isSame } from "./response.js";
import { type FileEntry, readChunks } from "./store.js";

/**
 * Throws if one of them has changed. Where the server gives no tags, the files themselves are compared.
 *
 * @param urlOf gives the address of a file.
 */
export async function checkFresh(
  kept: FileEntry[],
  urlOf: (file: string) => string,
  options: HttpOptions,
): Promise<void> {
  for (const entry of kept) {
    const now = await versionOf(urlOf(entry.file), options);
    const isFresh =
      now !== null &&
      !("refusal" in now) &&
      !isOther(now, entry) &&
      (isSame(now, entry) || (await isSameContent(entry, urlOf(entry.file), options)));
    if (!isFresh) throw changedError(entry.file, { file: entry.file });
  }
}

async function isSameContent(kept: FileEntry, url: string, options: HttpOptions): Promise<boolean> {
  const remote = await openRemote(url, null, options);
  if (!remote || "refusal" in remote) return false;
  const { file: name, n_bytes, n_chunks } = kept;
  const own = await readBytes({ name, bytes: n_bytes, chunks: readChunks(kept, [0, n_chunks], options.signal) });
  const other = await readBytes({ name, bytes: remote.bytes, chunks: remote.chunks });
  return own.byteLength === other.byteLength && own.every((byte, i) => byte === other[i]);
}
