/** The tokens of one generation, as they come. */

import { abortError } from "./errors.js";
import type { Chunk, GenerationResult } from "./types.js";

/** What a stream needs of the request behind it. */
export interface StreamSource {
  result: Promise<GenerationResult>;
  interrupt(): void;
  cancel(): void;
}

/**
 * An async iterable of chunks; leaving the loop early cancels the generation.
 *
 * It can be iterated once. `result` settles whether or not anybody iterates.
 */
export class GenerationStream implements AsyncIterable<Chunk> {
  /** The whole text and how it came about. */
  readonly result: Promise<GenerationResult>;
  #source: StreamSource;
  #chunks: Chunk[] = [];
  #ended = false;
  #error: unknown;
  /** Wakes a reader that waits. */
  #wake: (() => void) | undefined;
  #isRead = false;

  /** @internal */
  constructor(start: (push: (chunk: Chunk) => void) => StreamSource) {
    this.#source = start((chunk) => {
      this.#chunks.push(chunk);
      this.#wake?.();
    });
    this.result = this.#source.result;
    const end = (error?: unknown) => {
      [this.#ended, this.#error] = [true, error];
      this.#wake?.();
    };
    // The loop over the chunks throws a failure too, so one that nobody awaits here must not be reported as unhandled.
    this.result.then(
      () => end(),
      (error: unknown) => end(error ?? abortError()),
    );
  }

  /** Ends the generation softly: the text so far is kept, `finish_reason` is `"interrupt"`. */
  interrupt(): void {
    this.#source.interrupt();
  }

  /** The chunks as they are written. To break out of the loop cancels the generation. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    if (this.#isRead) throw new Error("a stream can be read once");
    this.#isRead = true;
    let done = false;
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk) yield chunk;
        else if (this.#ended) break;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      done = true;
    } finally {
      if (!done) this.#source.cancel();
    }
    if (this.#error !== undefined) throw this.#error;
  }

  /** The same chunks as a platform stream; cancelling it cancels the generation. */
  toReadableStream(): ReadableStream<Chunk> {
    const chunks = this[Symbol.asyncIterator]();
    return new ReadableStream<Chunk>({
      pull: async (controller) => {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: () => this.#source.cancel(),
    });
  }
}
