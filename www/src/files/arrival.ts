/** A file that is stored as it arrives, and read from the cache at the same time. */

import type { FileWriter } from "./file-writer.js";
import type { Remote } from "./http.js";
import { readChunks } from "./store.js";

/** Does something with the cache, or throws if that can no longer be used. */
export type Guard = (action: () => Promise<void>) => Promise<void>;

/**
 * A download that runs by itself, into the cache, whether or not anybody reads it. What is read comes from the cache,
 * so a reader that is slow holds no memory.
 */
export class Arrival {
  readonly writer: FileWriter;
  readonly remote: Remote;
  /** Resolves when the download is over, whether it succeeded or not. */
  readonly end: Promise<void>;
  /** Why the download ended early, if it did. */
  failure: unknown;
  #isOver = false;
  /** Wakes the reader. */
  #wake = () => {};

  constructor(remote: Remote, writer: FileWriter, guard: Guard) {
    [this.remote, this.writer] = [remote, writer];
    this.end = this.#run(guard);
  }

  async #run(guard: Guard): Promise<void> {
    try {
      try {
        for await (const chunk of this.remote.chunks) {
          await guard(() => this.writer.write(chunk));
          this.#wake();
        }
      } finally {
        // Also when the download breaks off, since the next visit goes on from what is stored.
        await guard(() => this.writer.flush());
      }
    } catch (error) {
      this.failure = error;
    }
    this.#isOver = true;
    this.#wake();
  }

  /** The file's chunks in order, each as soon as it is stored; fails as the download did, after what it had stored. */
  async *chunks(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let i = 0; ; i++) {
      while (i >= this.writer.entry.n_chunks && !this.#isOver) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (i < this.writer.entry.n_chunks) {
        yield* readChunks(this.writer.entry, [i, i + 1], signal);
      } else if (this.failure === undefined) {
        return;
      } else {
        throw this.failure;
      }
    }
  }
}

/** The bytes of `chunks` without the first `nBytes` of them. */
export async function* after(nBytes: number, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let skip = nBytes;
  for await (const chunk of chunks) {
    if (skip < chunk.byteLength) yield chunk.subarray(skip);
    skip = Math.max(0, skip - chunk.byteLength);
  }
}
