/** Reading a stream of bytes in little memory. */

import { abortError } from "../api/errors.js";
import { release } from "./release.js";

/** Bytes of the memory that is read into, again and again. */
const BUFFER_BYTES = 1 << 20;

/**
 * A stream's bytes in order, until the signal says stop. Each piece is there until the next one is asked for: browsers that
 * can read into memory of ours do so into the same, since what a stream allocates piles up until it is collected.
 */
export async function* readStream(stream: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = openReader(stream);
  const cancel = () => void reader.cancel().catch(() => undefined); // the stream may have failed by itself
  signal.addEventListener("abort", cancel);
  try {
    let buffer = new ArrayBuffer(reader instanceof ReadableStreamDefaultReader ? 0 : BUFFER_BYTES);
    for (;;) {
      const { done, value } =
        reader instanceof ReadableStreamDefaultReader ? await reader.read() : await reader.read(new Uint8Array(buffer));
      if (signal.aborted) throw abortError();
      if (done) {
        if (value) release(value);
        return;
      }
      yield value;
      buffer = value.buffer as ArrayBuffer; // the same memory: reading takes it and gives it back
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

function openReader(
  stream: ReadableStream<Uint8Array>,
): ReadableStreamBYOBReader | ReadableStreamDefaultReader<Uint8Array> {
  try {
    return stream.getReader({ mode: "byob" });
  } catch {
    return stream.getReader(); // not a stream of this kind, or not a browser
  }
}
