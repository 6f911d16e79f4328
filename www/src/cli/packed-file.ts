/** A file of packed weights that is being written. */

import { createHash } from "node:crypto";
import { closeSync, createReadStream, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";

/** Writes all bytes to a file, at a place in it; the system may take fewer of them at once. */
export function writeAll(fd: number, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at, bytes.byteLength - at, offset + at);
}

/** Rust calls `write` (src/web/packer.rs). What fails there, such as a disk that is full, is thrown through it. */
export class PackedFile {
  readonly #fd: number;

  /** Begins the file anew. */
  constructor(path: string) {
    this.#fd = openSync(path, "w");
  }

  write(offset: number, bytes: Uint8Array): void {
    writeAll(this.#fd, bytes, offset);
  }

  /** Makes it so large; what is not written are zeros. */
  resize(nBytes: number): void {
    ftruncateSync(this.#fd, nBytes);
  }

  close(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

/** The SHA-256 of a file and of its pieces, in hex. */
export async function digestsOf(path: string, pieceBytes: number): Promise<{ sha256: string; pieces: string[] }> {
  const whole = createHash("sha256");
  const pieces: string[] = [];
  let [piece, nFilled] = [createHash("sha256"), 0];
  for await (const chunk of createReadStream(path, { highWaterMark: pieceBytes }) as AsyncIterable<Uint8Array>) {
    whole.update(chunk);
    for (let at = 0; at < chunk.byteLength; ) {
      const part = chunk.subarray(at, at + pieceBytes - nFilled);
      piece.update(part);
      [at, nFilled] = [at + part.byteLength, nFilled + part.byteLength];
      if (nFilled < pieceBytes) continue;
      pieces.push(piece.digest("hex"));
      [piece, nFilled] = [createHash("sha256"), 0];
    }
  }
  if (nFilled > 0) pieces.push(piece.digest("hex"));
  return { sha256: whole.digest("hex"), pieces };
}
