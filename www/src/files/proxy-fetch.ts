/** `fetch` for the worker by a function that lives in the page's thread, since functions cannot be posted. */

import { abortError } from "../api/errors.js";
import type { Fetch, FetchInit } from "./http.js";
import type { FromWorker, ToWorker } from "../api/messages.js";

type Answer = Extract<ToWorker, { kind: "fetch-head" | "fetch-chunk" | "fetch-end" | "fetch-error" }>;

interface Pending {
  head(status: number, headers: [string, string][]): void;
  fail(error: Error): void;
  body: ReadableStreamDefaultController<Uint8Array> | undefined;
}

/** The worker's end. */
export class ProxyFetch {
  #post: (message: FromWorker) => void;
  #pending = new Map<number, Pending>();
  #next_id = 1;

  constructor(post: (message: FromWorker) => void) {
    this.#post = post;
  }

  /** Like the platform's `fetch`. */
  fetch: Fetch = (url, { signal, method, headers }) =>
    new Promise((resolve, reject) => {
      const id = this.#next_id++;
      const end = () => {
        this.#pending.delete(id);
        signal.removeEventListener("abort", cancel);
      };
      const cancel = () => {
        this.#post({ kind: "fetch-cancel", id });
        pending.fail(abortError());
      };
      const pending: Pending = {
        body: undefined,
        head: (status, headers) => {
          const stream = new ReadableStream<Uint8Array>({
            start: (controller) => void (pending.body = controller),
            pull: () => this.#post({ kind: "fetch-pull", id }),
            cancel,
          });
          // a body is not allowed with these
          const has_body = status !== 204 && status !== 205 && status !== 304;
          resolve(new Response(has_body ? stream : null, { status, headers }));
        },
        fail: (error) => {
          end();
          reject(error); // no effect once resolved
          pending.body?.error(error);
        },
      };
      this.#pending.set(id, pending);
      signal.addEventListener("abort", cancel, { once: true });
      this.#post({ kind: "fetch", id, url, method: method ?? "GET", headers: headers ?? {} });
    });

  /** Takes a message from the other end. One that comes after a cancel has nobody to go to. */
  receive(message: Answer): void {
    const pending = this.#pending.get(message.id);
    switch (message.kind) {
      case "fetch-head":
        return pending?.head(message.status, message.headers);
      case "fetch-chunk":
        return pending?.body?.enqueue(message.bytes);
      case "fetch-end":
        pending?.body?.close();
        this.#pending.delete(message.id);
        return;
      case "fetch-error":
        return pending?.fail(new TypeError(message.message));
    }
  }
}

/** Lets as many chunks pass as the worker has asked for. */
export class Pulls {
  #n = 0;
  #wake: (() => void) | undefined;

  /** The worker asks for one more, or needs none any more. */
  add(n = 1): void {
    this.#n += n;
    this.#wake?.();
  }

  /** Waits for the next one. */
  async take(): Promise<void> {
    while (this.#n < 1) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#n -= 1;
  }
}

/** The page's end: answers one request of the worker with the caller's function. */
export async function serveFetch(
  id: number,
  url: string,
  init: FetchInit,
  fetch: Fetch,
  pulls: Pulls,
  post: (message: Answer, transfer?: Transferable[]) => void,
): Promise<void> {
  try {
    const response = await fetch(url, init);
    // the length of what may be compressed says nothing; see `describe`
    const is_hidden = response.type === "cors" && !response.headers.get("content-type")?.includes("octet-stream");
    const headers = [...response.headers].filter(([name]) => !(is_hidden && name === "content-length"));
    post({ kind: "fetch-head", id, status: response.status, headers });
    const reader = response.body?.getReader();
    // whatever the caller's function does with the signal
    const stop = () => {
      void reader?.cancel().catch(() => undefined);
      pulls.add(Infinity);
    };
    if (init.signal.aborted) stop();
    init.signal.addEventListener("abort", stop, { once: true });
    while (reader) {
      await pulls.take();
      const { done, value } = await reader.read();
      if (done) break;
      const bytes = new Uint8Array(value); // a copy that can be given away: the caller may keep the original
      post({ kind: "fetch-chunk", id, bytes }, [bytes.buffer]);
    }
    post({ kind: "fetch-end", id });
  } catch (error) {
    post({ kind: "fetch-error", id, message: error instanceof Error ? error.message : String(error) });
  }
}
