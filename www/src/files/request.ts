/**
 * One request: tried again while the server is busy or cannot be reached, and put in another way where it is refused.
 */

import { abortError, isAbort, makeError, messageOf } from "../api/errors.js";
import { canParse, shownUrl } from "./address.js";
import { unlessSilent, wait } from "./silence.js";

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

/** What is asked for. */
export interface Question {
  url: string;
  method?: "GET" | "HEAD";
  /** The value of the header `Range`. */
  range?: string | undefined;
  /** How often it is asked at most. */
  maxAttempts?: number;
}

/** Why a server does not give a file: a status, or a page in the file's place. */
export interface Refusal {
  url: string;
  status: number;
  /** What was found, in words. */
  found: string;
}

/** An answer: the response, or that the file is not there (`null`), or may not be there. */
export type Answer = { response: Response } | { refusal: Refusal } | null;

/** Attempts at one piece of a file, and the waits between them: 0.5, 1, 2, 4 s, unless the server names its own. */
export const MAX_ATTEMPTS = 5;
export const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;

/** Statuses of a file that is not there. */
const GONE: ReadonlySet<number> = new Set([404, 410]);
/** Statuses that some servers give for a file that is not there, and others for one that the caller may not have. */
const REFUSED: ReadonlySet<number> = new Set([400, 401, 403]);
/** Statuses after which asking again may change something. */
function isPassing(status: number, method: string | undefined): boolean {
  // Some servers fail at HEAD; they may still answer GET.
  if (method === "HEAD") return status === 429 || status === 503;
  return status === 429 || status === 408 || status === 304 || (status >= 500 && status !== 501);
}

/** Hosts that refuse questions for a part of a file, since these need a permission that the host does not give. */
const noRanges = new Set<string>();

/** The host that a URL is on. */
export const originOf = (url: string) => (canParse(url) ? new URL(url).origin : url);

/** Asks until there is an answer. */
export async function request(question: Question, options: HttpOptions): Promise<Answer> {
  const { url, maxAttempts = MAX_ATTEMPTS } = question;
  let { range } = question;
  for (let attempt = 1; ; attempt++) {
    let failure: string;
    let status: number | undefined;
    let waitMs = FIRST_WAIT_MS * 2 ** (attempt - 1);
    let isFinal = attempt >= maxAttempts;
    try {
      const response = await ask({ ...question, range }, options);
      if (response.ok && (response.body || question.method === "HEAD")) return { response };
      await drop(response);
      status = response.status;
      if (GONE.has(status)) return null;
      if (REFUSED.has(status)) return { refusal: { url, status, found: `HTTP status ${status}` } };
      // The file is shorter than what is kept of it, or the server cannot give parts: it begins anew.
      if (status === 416 && range !== undefined) {
        range = undefined;
        attempt -= 1;
        continue;
      }
      failure = `expected the file, found HTTP status ${status}`;
      isFinal ||= !isPassing(status, question.method);
      waitMs = retryAfter(response) ?? waitMs;
    } catch (error) {
      if (options.signal.aborted || isAbort(error)) throw abortError();
      failure = `the request failed (${messageOf(error)})`;
      isFinal ||= question.method === "HEAD";
    }
    if (isFinal) throw networkError(url, failure, status);
    await wait(waitMs, options.signal);
  }
}

/** An error about a file's address, which is shown without what signs it. */
export function networkError(url: string, message: string, status?: number): Error {
  const shown = shownUrl(url);
  return makeError("network", `${shown}: ${message}`, status === undefined ? { url: shown } : { url: shown, status });
}

/** Asks once. Where only the part of a file is refused, all of it is asked for. */
async function ask(question: Question, options: HttpOptions): Promise<Response> {
  const { url, range } = question;
  if (range === undefined) return send(question, options);
  const plain = { ...question, range: undefined };
  if (noRanges.has(originOf(url))) return send(plain, options);
  try {
    return await send(question, options);
  } catch (error) {
    if (options.signal.aborted || isAbort(error)) throw error;
    // The browser may ask the server for permission first and be refused, which looks like a broken connection.
    const whole = await send(plain, options);
    try {
      // The connection may have come back between the two, so the part is asked for once more.
      const part = await send(question, options);
      await drop(whole);
      return part;
    } catch {
      noRanges.add(originOf(url));
      return whole;
    }
  }
}

/** Sends one request; fails if its answer does not begin in time. */
async function send({ url, method, range }: Question, { fetch, signal }: HttpOptions): Promise<Response> {
  const controller = new AbortController();
  const cancel = () => controller.abort();
  if (signal.aborted) throw abortError();
  signal.addEventListener("abort", cancel);
  const init: FetchInit = { signal: controller.signal, method: method ?? "GET" };
  if (range !== undefined) init.headers = { Range: range };
  try {
    const response = await unlessSilent(fetch(url, init), cancel);
    cancels.set(response, () => {
      signal.removeEventListener("abort", cancel);
      cancel();
    });
    return response;
  } catch (error) {
    signal.removeEventListener("abort", cancel);
    throw error;
  }
}

/** What ends the connection of a response. */
const cancels = new WeakMap<Response, () => void>();

/** Ends a response that nobody reads any more, also one whose server has stopped sending. */
export async function drop(response: Response): Promise<void> {
  // A server that does not end a body is not waited for.
  void response.body?.cancel().catch(() => undefined);
  end(response);
}

/** Ends the connection of a response. */
export function end(response: Response): void {
  cancels.get(response)?.();
}

/** How long the server asks to wait (given in seconds or as a date), in milliseconds. */
function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (value === null) return undefined;
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(MAX_WAIT_MS, Math.max(0, ms)) : undefined;
}
