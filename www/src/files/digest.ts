/** The SHA-256 of files: where it is told, and whether a file has it. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { abortError, isAbort, makeError, messageOf } from "../api/errors.js";
import type { StartHash } from "./hash.js";
import type { PublishedWeights } from "./manifest.js";
import { readStream } from "./read-stream.js";
import { drop, type HttpOptions, request } from "./request.js";
import { isWeights } from "./weight-files.js";

/** Pieces whose SHA-256 is computed at once. */
const MAX_PIECES = 4;

/** A pointer has three short lines. */
const MAX_POINTER_CHARS = 1000;

/** What is known of a file's SHA-256: the digest, that there is none to be had, or why it could not be asked for. */
export type Told = { sha256: string | null; unread: string | null };

const NONE: Told = { sha256: null, unread: null };

/**
 * The SHA-256 of a large file on a Hugging Face hub. Its answers carry it on a redirect, which a page does not get to
 * see; the Git LFS pointer, which the hub serves under `raw`, has it as well. Other hosts have neither, which is no
 * error.
 */
export async function askDigest(url: string, options: HttpOptions): Promise<Told> {
  if (!url.includes("/resolve/") || !isWeights(new URL(url).pathname)) return NONE;
  const { signal } = options;
  let text = "";
  try {
    const answer = await request({ url: url.replace("/resolve/", "/raw/"), maxAttempts: 2 }, options);
    if (answer && "refusal" in answer) return { sha256: null, unread: answer.refusal.found };
    if (!answer?.response.body) return NONE;
    const decoder = new TextDecoder();
    for await (const chunk of readStream(answer.response.body, signal)) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > MAX_POINTER_CHARS) break; // this is a file and not a pointer
    }
    await drop(answer.response);
  } catch (error) {
    if (signal.aborted || isAbort(error)) throw abortError();
    return { sha256: null, unread: messageOf(error) };
  }
  const pointer = text.slice(0, MAX_POINTER_CHARS);
  const digest = /^version https:\/\/git-lfs[\s\S]*^oid sha256:([0-9a-f]{64})$/m.exec(pointer)?.[1];
  return digest === undefined ? NONE : { sha256: digest, unread: null };
}

/** How far the check of a file has got: `nBytes` since the last call; `isDone`: it has passed. */
export type OnChecked = (nBytes: number, isDone: boolean) => void;

/**
 * Passes a whole file's chunks on and, where its SHA-256 is known, fails at their end if it is another.
 *
 * @param name the file's name, for the error.
 */
export async function* checked(
  chunks: AsyncIterable<Uint8Array>,
  expected: string | null,
  name: string,
  { startHash, tell }: { startHash: StartHash; tell: OnChecked },
): AsyncGenerator<Uint8Array> {
  if (expected === null) return yield* chunks;
  const hash = startHash();
  let found: string;
  try {
    tell(0, false);
    for await (const chunk of chunks) {
      await hash.update(chunk);
      tell(chunk.byteLength, false);
      yield chunk;
    }
    found = await hash.digest();
  } finally {
    hash.close();
  }
  if (found !== expected) {
    throw makeError("integrity", `${name}: expected SHA-256 ${expected}, found ${found}`, {
      file: name,
      expected,
      found,
    });
  }
  tell(0, true);
}

/**
 * As {@link checked}, for packed weights whose SHA-256 is known piece by piece: a wrong piece is told as soon as it is
 * there. Where the browser has a digest of its own, that computes it beside this thread.
 */
export async function* checkedPieces(
  chunks: AsyncIterable<Uint8Array>,
  { name, bytes, pieceBytes, pieces }: PublishedWeights,
  tell: OnChecked,
): AsyncGenerator<Uint8Array> {
  const wrong = (expected: string, found: string) =>
    makeError("integrity", `${name}: expected ${expected}, found ${found}`, { file: name, expected, found });
  let piece = new Uint8Array(Math.min(pieceBytes, bytes));
  let [nFilled, nPieces, nBytes] = [0, 0, 0];
  const spare: Uint8Array<ArrayBuffer>[] = [];
  const running = new Set<Promise<void>>();
  let failure: unknown;
  const check = () => {
    const [own, n, i] = [piece, nFilled, nPieces];
    const run = async () => {
      const found = await digestOf(own.subarray(0, n));
      if (found === pieces[i]) spare.push(own);
      else failure ??= wrong(`SHA-256 ${pieces[i]} of the bytes from ${i * pieceBytes} on`, found);
    };
    const checking = run().finally(() => running.delete(checking));
    checking.catch((error: unknown) => (failure ??= error));
    running.add(checking);
    piece = spare.pop() ?? new Uint8Array(own.byteLength);
    [nFilled, nPieces] = [0, i + 1];
  };
  tell(0, false);
  for await (const chunk of chunks) {
    nBytes += chunk.byteLength;
    if (nBytes > bytes) throw wrong(`${bytes} bytes`, "more");
    for (let at = 0; at < chunk.byteLength; ) {
      const part = chunk.subarray(at, at + piece.byteLength - nFilled);
      piece.set(part, nFilled);
      [at, nFilled] = [at + part.byteLength, nFilled + part.byteLength];
      if (nFilled < piece.byteLength) continue;
      check();
      while (running.size >= MAX_PIECES) await Promise.race(running);
    }
    if (failure) throw failure;
    tell(chunk.byteLength, false);
    yield chunk;
  }
  if (nBytes !== bytes) throw wrong(`${bytes} bytes`, String(nBytes));
  if (nFilled > 0) check();
  await Promise.all(running);
  if (failure) throw failure;
  tell(0, true);
}

/** The SHA-256 of bytes, in hex. Pages that are not served securely have no digest of the platform's. */
async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await globalThis.crypto?.subtle?.digest("SHA-256", bytes);
  return bytesToHex(digest ? new Uint8Array(digest) : sha256(bytes));
}
