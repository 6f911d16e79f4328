/** The SHA-256 of files: where it is told, and whether a file has it. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { abortError, isAbort, makeError, messageOf } from "../api/errors.js";
import { readStream } from "./read-stream.js";
import { drop, type HttpOptions, request } from "./request.js";

/** Which files hold weights as a checkpoint has them. */
export const isWeights = (file: string) => /\.(safetensors|bin)$/.test(file);

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
  tell: OnChecked,
): AsyncGenerator<Uint8Array> {
  if (expected === null) return yield* chunks;
  const hash = sha256.create();
  tell(0, false);
  for await (const chunk of chunks) {
    hash.update(chunk);
    tell(chunk.byteLength, false);
    yield chunk;
  }
  const found = bytesToHex(hash.digest());
  if (found !== expected) {
    throw makeError("integrity", `${name}: expected SHA-256 ${expected}, found ${found}`, {
      file: name,
      expected,
      found,
    });
  }
  tell(0, true);
}
