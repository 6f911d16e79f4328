/** One file over HTTP: retried with back-off, resumed where it broke, checked as it streams. Runs in the worker. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { abortError, isAbort, makeError } from "../api/errors.js";
import { readStream } from "./read-stream.js";

/** `fetch`, or what stands in for it. */
export type Fetch = (url: string, init: FetchInit) => Promise<Response>;

/** The part of `RequestInit` that is used. */
export interface FetchInit {
  signal: AbortSignal;
  method?: "GET" | "HEAD";
  headers?: Record<string, string>;
}

/** How to fetch. */
export interface HttpOptions {
  fetch: Fetch;
  /** Whether to check sizes and, where the server tells one, SHA-256. */
  verify: boolean;
  signal: AbortSignal;
}

/** What identifies a version of a file on its server. */
export interface Version {
  /** Size in bytes, where it is known. */
  bytes: number | null;
  /** The server's `ETag`, or when it says that the file last changed. */
  tag: string | null;
}

/** An open remote file. */
export interface Remote extends Version {
  /** Where `chunks` begins: what was asked for, or 0 if the server starts anew. */
  from: number;
  /** What the server says the whole file's SHA-256 is, in hex. */
  sha256: string | null;
  chunks: AsyncIterable<Uint8Array>;
}

/** Attempts at one piece of a file, and the waits between them: 0.5, 1, 2, 4 s, unless the server names its own. */
const MAX_ATTEMPTS = 5;
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;

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
): Promise<Remote | null> {
  let response = await request(url, kept?.n ?? 0, options);
  let from = 0;
  if (kept && response?.status === 206) {
    const { start, version } = describe(response);
    if (start === kept.n && isSame(version, kept)) from = kept.n;
    else {
      await drop(response); // a part of another version is of no use
      response = await request(url, 0, options);
    }
  }
  if (!response) return null;
  const { version, digest } = describe(response);
  const sha256 = digest ?? (options.verify ? await digestOfPointer(url, options) : null);
  return { ...version, from, sha256, chunks: read({ url, response, from, version, options }) };
}

/** Asks which version of a file is served, without its bytes; `null` if the server does not have it. */
export async function versionOf(url: string, options: HttpOptions): Promise<Version | null> {
  const response = await request(url, 0, options, "HEAD");
  if (response) await drop(response); // a caller's fetch may have ignored the method and sent the bytes
  return response && describe(response).version;
}

/**
 * The SHA-256 of a large file on a Hugging Face hub. Its answers carry it on a redirect, which a page does not get to
 * see; the Git LFS pointer, which the hub serves under `raw`, has it as well. Other hosts have neither, which is no
 * error.
 */
async function digestOfPointer(url: string, { fetch, signal }: HttpOptions): Promise<string | null> {
  if (!url.includes("/resolve/") || !url.endsWith(".safetensors")) return null;
  let text = "";
  try {
    const response = await fetch(url.replace("/resolve/", "/raw/"), { signal });
    if (response.ok && response.body) {
      const decoder = new TextDecoder();
      for await (const chunk of readStream(response.body, signal)) {
        text += decoder.decode(chunk, { stream: true });
        if (text.length > MAX_POINTER_CHARS) break; // this is a file and not a pointer
      }
    } else await drop(response);
  } catch (error) {
    if (signal.aborted || isAbort(error)) throw abortError();
    return null; // if the network is the trouble, the request for the file itself fails with a better message
  }
  return (
    /^version https:\/\/git-lfs[\s\S]*^oid sha256:([0-9a-f]{64})$/m.exec(text.slice(0, MAX_POINTER_CHARS))?.[1] ?? null
  );
}

/** A pointer has three short lines. */
const MAX_POINTER_CHARS = 1000;

/** A response that is to be read. */
interface Reading {
  url: string;
  response: Response;
  /** Place in the file of the response's first byte. */
  from: number;
  version: Version;
  options: HttpOptions;
}

/** The bytes of a response and, where the connection breaks, of the ones that continue it. */
async function* read({ url, response: first, from, version, options }: Reading): AsyncGenerator<Uint8Array> {
  let response = first;
  let found = from;
  /** Bytes of an answer that began anew which have been passed on already. */
  let skip = 0;
  for (let attempt = 1; ; ) {
    try {
      if (response.body) {
        for await (const chunk of readStream(response.body, options.signal)) {
          attempt = 1; // the connection works again
          const rest = chunk.subarray(Math.min(skip, chunk.byteLength));
          skip -= chunk.byteLength - rest.byteLength;
          if (rest.byteLength === 0) continue;
          found += rest.byteLength;
          yield rest;
        }
      }
      // A proxy may end a body early without an error.
      if (version.bytes === null || found >= version.bytes) break;
      throw new TypeError(`it ended ${version.bytes - found} bytes early`);
    } catch (error) {
      if (options.signal.aborted || isAbort(error)) throw abortError();
      if (attempt >= MAX_ATTEMPTS) {
        throw makeError("network", `${url}: the connection broke after ${found} bytes (${(error as Error).message})`, {
          url,
        });
      }
      await wait(FIRST_WAIT_MS * 2 ** (attempt - 1), options.signal);
      attempt += 1;
      const next = await request(url, found, options);
      const described = next && describe(next);
      const isSameVersion = described && (found === 0 || isSame(described.version, version));
      if (!next || !isSameVersion || (described.start !== found && described.start !== 0)) {
        if (next) await drop(next);
        const broke = `the connection broke after ${found} bytes`;
        const message = `${url}: ${broke}, and the server does not continue the file from there`;
        throw makeError("network", message, { url });
      }
      skip = described.start === 0 ? found : 0; // a server that knows no ranges begins anew
      response = next;
    }
  }
  if (options.verify && version.bytes !== null && found !== version.bytes) {
    throw makeError("integrity", `${url}: expected ${version.bytes} bytes, found ${found}`, {
      url,
      expected: version.bytes,
      found,
    });
  }
}

/** One request, tried again while the server is busy or cannot be reached; `null` for a file that is not there. */
async function request(
  url: string,
  from: number,
  options: HttpOptions,
  method: "GET" | "HEAD" = "GET",
): Promise<Response | null> {
  const { fetch, signal } = options;
  for (let attempt = 1; ; attempt++) {
    let failure: string;
    let status: number | undefined;
    let waitMs = FIRST_WAIT_MS * 2 ** (attempt - 1);
    try {
      const response = await fetch(url, {
        signal,
        method,
        ...(from > 0 ? { headers: { Range: `bytes=${from}-` } } : {}),
      });
      if (response.status === 404) return await drop(response);
      // Hosts of single-page apps answer every path with their page.
      if (response.ok && response.headers.get("content-type")?.includes("text/html")) return await drop(response);
      if (response.ok && (response.body || method === "HEAD")) return response;
      await drop(response);
      status = response.status;
      if (status === 416) return request(url, 0, options); // the file is shorter than what is kept, so it begins anew
      failure = `expected the file, found HTTP status ${status}`;
      if (status === 401 || status === 403) failure += ": the model is private, gated or does not exist";
      if (status !== 429 && status !== 408 && status < 500) attempt = MAX_ATTEMPTS; // asking again changes nothing
      waitMs = retryAfter(response) ?? waitMs;
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw abortError();
      failure = `the request failed (${(error as Error).message})`;
    }
    if (attempt >= MAX_ATTEMPTS) {
      throw makeError("network", `${url}: ${failure}`, status === undefined ? { url } : { url, status });
    }
    await wait(waitMs, signal);
  }
}

/** Lets go of a response whose bytes nobody wants. */
async function drop(response: Response): Promise<null> {
  // what has failed by itself cannot be cancelled, and that failure is no longer of interest
  await response.body?.cancel().catch(() => undefined);
  return null;
}

/** What a response says of its file. `start` is the place in the file of the response's first byte. */
function describe(response: Response): { start: number; version: Version; digest: string | null } {
  const { headers } = response;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
  // The length of a compressed body is not that of the file. Whether another origin's body is compressed cannot be
  // seen, but octet streams are not.
  const isHidden = response.type === "cors" && !headers.get("content-type")?.includes("octet-stream");
  const length = headers.get("content-encoding") || isHidden ? null : headers.get("content-length");
  const bytes = response.status === 206 ? (range?.[2] ?? null) : length;
  // The hub's tag of a large file is its SHA-256; other servers' tags may be anything.
  const linked = headers.get("x-linked-etag");
  const digest = /^(?:W\/)?"?([0-9a-f]{64})"?$/.exec(linked ?? "")?.[1] ?? null;
  const n = bytes === null || bytes === "*" ? Number(headers.get("x-linked-size") ?? NaN) : Number(bytes);
  const version = {
    bytes: Number.isSafeInteger(n) ? n : null,
    tag: linked ?? headers.get("etag") ?? headers.get("last-modified"),
  };
  return { start: response.status === 206 ? Number(range?.[1] ?? NaN) : 0, version, digest };
}

/** Whether two versions are surely the same; without a tag that cannot be known. */
export function isSame(a: Version, b: Version): boolean {
  return a.tag !== null && a.tag === b.tag && a.bytes === b.bytes;
}

/** How long the server asks to wait (given in seconds or as a date), in milliseconds. */
function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (value === null) return undefined;
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(MAX_WAIT_MS, Math.max(0, ms)) : undefined;
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = () => {
      clearTimeout(timer);
      reject(abortError());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", cancel);
      resolve();
    }, ms);
    signal.addEventListener("abort", cancel, { once: true });
  });
}

/** Passes a whole file's chunks on and fails at their end if their SHA-256 is not the expected one. */
async function* checked(chunks: AsyncIterable<Uint8Array>, expected: string, name: string): AsyncGenerator<Uint8Array> {
  const hash = sha256.create();
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  const found = bytesToHex(hash.digest());
  if (found !== expected)
    throw makeError("integrity", `${name}: expected SHA-256 ${expected}, found ${found}`, {
      file: name,
      expected,
      found,
    });
}

/** As `checked`, if checks are wanted and the SHA-256 is known. */
export function verified(
  chunks: AsyncIterable<Uint8Array>,
  expected: string | null,
  name: string,
  verify: boolean,
): AsyncIterable<Uint8Array> {
  return verify && expected !== null ? checked(chunks, expected, name) : chunks;
}
