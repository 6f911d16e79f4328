/** A file that is stored as it arrives, and read meanwhile. */

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
  /** Settled when it is over, well or not; never rejected. */
  readonly end: Promise<void>;
  /** Why it ended early. */
  failure: unknown;
  #is_over = false;
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
        // also when it breaks off: the next visit goes on from here
        await guard(() => this.writer.flush());
      }
    } catch (error) {
      this.failure = error;
    }
    this.#is_over = true;
    this.#wake();
  }

  /** The file's chunks in order, each as soon as it is stored; fails as the download did, after what it had stored. */
  async *chunks(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { model, file } = this.writer.entry;
    for (let i = 0; ; i++) {
      while (i >= this.writer.entry.n_chunks && !this.#is_over) await new Promise<void>((resolve) => (this.#wake = resolve));
      if (i < this.writer.entry.n_chunks) {
        yield* readChunks(model, file, i, i + 1, signal);
      } else if (this.failure === undefined) return;
      else throw this.failure;
    }
  }
}

/** A version's chunks without the first `n_bytes` of them. */
export async function* after(n_bytes: number, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let skip = n_bytes;
  for await (const chunk of chunks) {
    if (skip < chunk.byteLength) yield chunk.subarray(skip);
    skip = Math.max(0, skip - chunk.byteLength);
  }
}
