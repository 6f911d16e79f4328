/** One file over HTTP: opened, resumed where it broke, its size asked for. Runs in the worker. */

import { abortError, isAbort, makeError, messageOf } from "../api/errors.js";
import { shownUrl } from "./address.js";
import { askDigest, type Told } from "./digest.js";
import { Joint } from "./joint.js";
import { readStream } from "./read-stream.js";
import {
  type Answer,
  drop,
  end,
  FIRST_WAIT_MS,
  type HttpOptions,
  MAX_ATTEMPTS,
  networkError,
  originOf,
  type Refusal,
  request,
} from "./request.js";
import { type Described, describe, isOther, isSameToTheByte, type Version } from "./response.js";
import { wait } from "./silence.js";
import { peek } from "./web-page.js";

/** An open remote file. */
export interface Remote extends Version, Told {
  /** Where `chunks` begins: what was asked for, or 0 if the server starts anew. */
  from: number;
  /** Size in bytes, where it is known at least roughly. */
  about: number | null;
  chunks: AsyncIterable<Uint8Array>;
}

/** What was found in a file's place, where that is not the file. */
const A_PAGE = "a web page (HTML)";

const refusalOf = (url: string, found: string): Refusal => ({ url, status: 200, found });

/** A file that became another one while it was fetched; loading it anew gives the one that is there now. */
export function changedError(file: string, details: Record<string, unknown>): Error {
  return makeError("network", `${file}: it changed on the server while it was fetched`, { ...details, changed: true });
}

/**
 * Opens a file, from the byte after what is there of an earlier version if that is still the version served.
 *
 * @returns `null` if the server does not have it.
 * @throws NetworkError, or the platform's `AbortError`.
 */
export async function openRemote(
  url: string,
  kept: (Version & { n: number }) | null,
  options: HttpOptions,
): Promise<Remote | { refusal: Refusal } | null> {
  const n = kept?.n ?? 0;
  let answer = await request({ url, range: rangeFrom(n) }, options);
  let from = 0;
  if (kept && answer && "response" in answer && answer.response.status === 206) {
    const { start, version } = describe(answer.response, n, kept.bytes);
    if (start === n && isSameToTheByte(version, kept)) from = n;
    else {
      await drop(answer.response); // a part of another version is of no use
      answer = await request({ url }, options);
    }
  }
  if (!answer || "refusal" in answer) return answer;
  const { response } = answer;
  const described = describe(response, from, kept?.bytes);
  const version = from > 0 && kept ? { ...described.version, bytes: kept.bytes } : described.version;
  const { isPage, chunks } = await peek(bodyOf(response, options.signal));
  if (isPage && from === 0) {
    await chunks.return(undefined);
    return { refusal: refusalOf(url, A_PAGE) };
  }
  const { digest, about, isCompressed } = described;
  const told = digest === null && options.verify ? await askDigest(url, options) : { sha256: digest, unread: null };
  const reading = { url, chunks, from, version, about, isCompressed, options };
  return { ...version, ...told, from, about, chunks: read(reading) };
}

/** A file's version, and its size where that is known at least roughly. */
export type Sized = Version & { about: number | null };

/** Hosts that do not answer HEAD. */
const noHeads = new Set<string>();

/** Asks which version of a file is served, without its bytes; `null` if the server does not have it. */
export async function versionOf(
  url: string,
  options: HttpOptions,
  maxAttempts = MAX_ATTEMPTS,
): Promise<Sized | { refusal: Refusal } | null> {
  const sized = ({ version, about }: Described): Sized => ({ ...version, about });
  const isHtml = (response: Response) => response.headers.get("content-type")?.includes("text/html") ?? false;
  const origin = originOf(url);
  let isHeadRefused = noHeads.has(origin);
  if (!isHeadRefused) {
    const head = await request({ url, method: "HEAD", maxAttempts }, options).catch((error: unknown) => {
      if (options.signal.aborted || isAbort(error)) throw error;
    });
    if (head === null) return null;
    if (head && "response" in head) {
      await drop(head.response); // a caller's fetch may have ignored the method and sent the bytes
      const described = describe(head.response);
      if (!isHtml(head.response) && (described.about !== null || described.isCompressed)) return sized(described);
    } else isHeadRefused = true;
  }
  let answer: Answer = await request({ url, range: "bytes=0-0", maxAttempts }, options);
  if (!answer || "refusal" in answer) return answer;
  if (isHeadRefused) noHeads.add(origin);
  let described = describe(answer.response);
  if (isHtml(answer.response) || (answer.response.status === 206 && described.about === null)) {
    // Only the beginning of the file, or an answer to a question for all of it, tells more.
    await drop(answer.response);
    answer = await request({ url, maxAttempts }, options);
    if (!answer || "refusal" in answer) return answer;
    described = describe(answer.response);
    const { isPage, chunks } = isHtml(answer.response)
      ? await peek(bodyOf(answer.response, options.signal))
      : { isPage: false, chunks: null };
    await chunks?.return(undefined);
    if (isPage) return { refusal: refusalOf(url, A_PAGE) };
  }
  await drop(answer.response);
  return sized(described);
}

function rangeFrom(n: number): string | undefined {
  return n > 0 ? `bytes=${n}-` : undefined;
}

/** The bytes of a response, whose connection ends with them. */
async function* bodyOf(response: Response, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    if (response.body) yield* readStream(response.body, signal, () => end(response));
  } finally {
    end(response);
  }
}

/** A response that is to be read. */
interface Reading {
  url: string;
  chunks: AsyncIterable<Uint8Array>;
  /** Place in the file of the response's first byte. */
  from: number;
  version: Version;
  about: number | null;
  isCompressed: boolean;
  options: HttpOptions;
}

/** The bytes of a response and, where the connection breaks, of the ones that continue it. */
async function* read({ url, chunks: first, from, version, about, isCompressed, options }: Reading) {
  const joint = new Joint(from);
  const { bytes } = version;
  let chunks = first;
  /** Whether the answer is a part that was asked for. */
  let isPart = false;
  /** Where a body ended that is shorter than what may be its size. */
  let doubtfulEnd: number | null = null;
  for (let attempt = 1; ; ) {
    const before = joint.found;
    try {
      for await (const chunk of chunks) {
        const fresh = joint.take(chunk);
        if (!fresh) throw changedError(shownUrl(url), { url: shownUrl(url) });
        if (fresh.byteLength === 0) continue;
        attempt = 1; // the connection works again
        yield fresh;
      }
      const expected = bytes ?? (doubtfulEnd === joint.found ? null : about);
      if (expected === null || joint.found >= expected) break;
      // A proxy may end a body early without an error. The size that another origin tells may also be that of
      // something compressed; then nothing more comes.
      if (bytes === null) doubtfulEnd = joint.found;
      throw new TypeError(`it ended ${expected - joint.found} bytes early`);
    } catch (error) {
      if (options.signal.aborted || isAbort(error)) throw abortError();
      if ((error as { changed?: boolean }).changed) throw error;
      const isEnd = doubtfulEnd === joint.found;
      if (isEnd && attempt > 1) break;
      const broke = `the connection broke after ${joint.found} bytes`;
      if (attempt >= MAX_ATTEMPTS) throw networkError(url, `${broke} (${messageOf(error)})`);
      await wait(FIRST_WAIT_MS * 2 ** (attempt - 1), options.signal);
      attempt += 1;
      // Where a part that was asked for gave nothing, all of the file may still give something.
      const hasParts = !isCompressed && !(about !== null && joint.found > about);
      isPart = hasParts && !(isPart && joint.found === before);
      const next = await goOn({ url, version, about, options }, joint, isPart);
      if (next) chunks = next;
      else if (isEnd) break;
      else throw networkError(url, `${broke}, and the server does not continue the file from there`);
    }
  }
  const { found } = joint;
  if (options.verify && bytes !== null && found !== bytes) {
    const message = `${shownUrl(url)}: expected ${bytes} bytes, found ${found}`;
    throw makeError("integrity", message, { url: shownUrl(url), expected: bytes, found });
  }
}

/** Asks for the rest of a file, or for all of it. → the answer's bytes, or `null` if it is of no use */
async function goOn(
  { url, version, about, options }: Pick<Reading, "url" | "version" | "about" | "options">,
  joint: Joint,
  isPart: boolean,
): Promise<AsyncIterable<Uint8Array> | null> {
  const isSure = version.tag !== null && !version.tag.startsWith("W/");
  const starts = isPart ? [isSure ? joint.found : joint.overlapStart, joint.overlapStart, 0] : [0];
  for (const at of starts) {
    const answer = await request({ url, range: rangeFrom(at) }, options);
    if (!answer || "refusal" in answer) return null;
    const { response } = answer;
    const now = describe(response, at, version.bytes ?? about);
    const isInPlace = now.start === 0 || now.start === at;
    // What is not surely the same has to be compared with what was there.
    const isComparable = now.start <= joint.overlapStart || isSameToTheByte(now.version, version);
    if (joint.found > 0 && isOther(now.version, version)) {
      await drop(response);
      throw changedError(shownUrl(url), { url: shownUrl(url) });
    }
    if (isInPlace && isComparable) {
      joint.begin(now.start);
      return bodyOf(response, options.signal);
    }
    await drop(response);
  }
  return null;
}
