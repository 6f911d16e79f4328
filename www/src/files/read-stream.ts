/** Reading a stream of bytes in little memory. */

import { abortError } from "../api/errors.js";
import { release } from "./release.js";
import { unlessSilent } from "./silence.js";

/** Bytes of the buffer that is read into. */
const BUFFER_BYTES = 1 << 20;

/**
 * A stream's bytes in order, until the signal aborts. Each piece is there until the next one is asked for: where the
 * browser can read into a given buffer, the same one is used again and again. Buffers that the stream allocates would
 * fill the memory until they are collected.
 *
 * With `giveUp`, a stream of which nothing comes for too long fails, after `giveUp` has ended its source.
 */
export async function* readStream(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal,
  giveUp?: () => void,
): AsyncGenerator<Uint8Array> {
  const reader = openReader(stream);
  const cancel = () => void reader.cancel().catch(() => undefined); // has no meaning for a stream that has failed
  signal.addEventListener("abort", cancel);
  try {
    let buffer = new ArrayBuffer(reader instanceof ReadableStreamDefaultReader ? 0 : BUFFER_BYTES);
    for (;;) {
      const coming =
        reader instanceof ReadableStreamDefaultReader ? reader.read() : reader.read(new Uint8Array(buffer));
      const { done, value } = await (giveUp
        ? unlessSilent<typeof coming extends Promise<infer R> ? R : never>(coming, giveUp)
        : coming);
      if (signal.aborted) throw abortError();
      if (done) {
        if (value) release(value);
        return;
      }
      yield value;
      buffer = value.buffer as ArrayBuffer; // the same memory: a read takes the buffer away and gives it back
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
    return stream.getReader(); // this stream, or this browser, cannot read into a given buffer
  }
}
