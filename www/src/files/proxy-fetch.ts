/** `fetch` for the worker by a function that lives in the page's thread, since functions cannot be posted. */

import { abortError, messageOf } from "../api/errors.js";
import type { FetchAnswer, FromWorker } from "../api/messages.js";
import type { Fetch, FetchInit } from "./request.js";

interface Pending {
  head(answer: FetchAnswer & { kind: "fetch-head" }): void;
  fail(error: Error): void;
  body: ReadableStreamDefaultController<Uint8Array> | undefined;
}

/** The worker's end. */
export class ProxyFetch {
  #post: (message: FromWorker) => void;
  #pending = new Map<number, Pending>();
  #nextId = 1;

  constructor(post: (message: FromWorker) => void) {
    this.#post = post;
  }

  /** Like the platform's `fetch`. */
  fetch: Fetch = (url, { signal, method, headers }) =>
    new Promise((resolve, reject) => {
      const id = this.#nextId++;
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
        head: ({ status, type, headers }) => {
          const stream = new ReadableStream<Uint8Array>({
            start: (controller) => {
              pending.body = controller;
            },
            pull: () => this.#post({ kind: "fetch-pull", id }),
            cancel,
          });
          // A response with one of these has no body.
          const hasBody = status !== 204 && status !== 205 && status !== 304;
          const response = new Response(hasBody ? stream : null, { status, headers });
          // Another origin's response hides headers; a response that is made here would not say so.
          Object.defineProperty(response, "type", { value: type });
          resolve(response);
        },
        fail: (error) => {
          end();
          reject(error); // has no effect once the response is there
          pending.body?.error(error);
        },
      };
      this.#pending.set(id, pending);
      signal.addEventListener("abort", cancel, { once: true });
      this.#post({ kind: "fetch", id, url, method: method ?? "GET", headers: headers ?? {} });
    });

  /** Takes a message from the other end. One that comes after a cancel has nobody to go to. */
  receive(message: FetchAnswer): void {
    const pending = this.#pending.get(message.id);
    switch (message.kind) {
      case "fetch-head":
        pending?.head(message);
        break;
      case "fetch-chunk":
        pending?.body?.enqueue(message.bytes);
        break;
      case "fetch-end":
        pending?.body?.close();
        this.#pending.delete(message.id);
        break;
      case "fetch-error":
        pending?.fail(new TypeError(message.message));
        break;
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
    while (this.#n < 1) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#n -= 1;
  }
}

/** A request of the worker, and what answers it. */
interface Served {
  id: number;
  url: string;
  init: FetchInit;
  /** The caller's function. */
  fetch: Fetch;
  pulls: Pulls;
  post(message: FetchAnswer, transfer?: Transferable[]): void;
}

/** The page's end: answers one request of the worker with the caller's function. */
export async function serveFetch({ id, url, init, fetch, pulls, post }: Served): Promise<void> {
  try {
    const response = await fetch(url, init);
    const { status, type } = response;
    post({ kind: "fetch-head", id, status, type, headers: [...response.headers] });
    const reader = response.body?.getReader();
    // The caller's function may not listen to the signal, so the reading is stopped as well.
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
    post({ kind: "fetch-error", id, message: messageOf(error) });
  }
}
