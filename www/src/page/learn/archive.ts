/** Files in one: a zip that a person can keep and open again. */

import { unzip, zip } from "fflate";

/** Files as a zip. Weights hardly shrink, so nothing is compressed. */
export async function archiveOf(files: Record<string, Blob>): Promise<Blob> {
  const entries = await Promise.all(
    Object.entries(files).map(async ([name, blob]) => [name, new Uint8Array(await blob.arrayBuffer())] as const),
  );
  const bytes = await new Promise<Uint8Array<ArrayBuffer>>((resolve, reject) =>
    zip(Object.fromEntries(entries), { level: 0 }, (error, data) => (error ? reject(error) : resolve(data as never))),
  );
  return new Blob([bytes], { type: "application/zip" });
}

/** What a zip holds, by the last part of each name. Throws where it is none. */
async function opened(file: Blob, name: string): Promise<Record<string, Blob>> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const entries = await new Promise<Record<string, Uint8Array>>((resolve, reject) =>
    unzip(bytes, (error, data) => {
      if (error) reject(new Error(`${name}: expected a zip of an adapter's files, found ${error.message}`));
      else resolve(data);
    }),
  );
  const files = Object.entries(entries).filter(([path]) => !path.endsWith("/"));
  return Object.fromEntries(
    files.map(([path, data]) => [path.split("/").at(-1), new Blob([data as Uint8Array<ArrayBuffer>])]),
  );
}

/** Files as they were chosen; a zip among them stands for what it holds. */
export async function unpacked(files: Iterable<File>): Promise<Record<string, Blob>> {
  const all: Record<string, Blob> = {};
  for (const file of files) {
    if (file.name.endsWith(".zip")) Object.assign(all, await opened(file, file.name));
    else all[file.name] = file;
  }
  return all;
}
