/** The page's end of the worker: requests, answers, events. */

import { abortError, fromWire, makeError } from "./errors.js";
import type { Fetch } from "../files/http.js";
import type { FromWorker, ToWorker } from "./messages.js";
import { Pulls, serveFetch } from "../files/proxy-fetch.js";
import type { Chunk, CreateGeneratorOptions, ProgressEvent, PromptProgress } from "./types.js";

/** How long a worker may go on after an abort: what it has fetched and not stored yet takes some 50 ms. */
const MAX_LINGER_MS = 2000;

/** A request without its number. */
type Ask<K extends ToWorker["kind"]> = Omit<Extract<ToWorker, { kind: K }>, "id">;

/** What a request may tell before it is answered. */
export interface Listeners {
  chunk?: (chunk: Chunk) => void;
  progress?: (event: ProgressEvent) => void;
  prompt?: (event: PromptProgress) => void;
}

/** A request under way. */
export interface Pending<T> {
  id: number;
  answer: Promise<T>;
}

interface Entry extends Listeners {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** How long a worker has to return its GPU's memory: a driver that is busy makes it wait, one that hangs for ever. */
const DISPOSE_MS = 10_000;

export class Client {
  #worker: Worker;
  #entries = new Map<number, Entry>();
  #fetches = new Map<number, { controller: AbortController; pulls: Pulls }>();
  #fetch: NonNullable<CreateGeneratorOptions["fetch"]> | undefined;
  #next_id = 1;
  /** Why nothing more can be asked. */
  #closed: Error | undefined;
  /** Requests that were aborted with everything else, and that the worker has not ended yet. */
  #lingering = new Set<number>();
  #disposal: Promise<void> | undefined;
  /** Ends the wait for a worker that is to be disposed of. */
  #letGo = () => {};

  constructor(worker: Worker, fetch: CreateGeneratorOptions["fetch"]) {
    this.#worker = worker;
    this.#fetch = fetch;
    worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => this.#receive(data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#letGo();
      this.close(makeError("internal", `the worker failed: ${event.message || "its script could not be loaded"}`));
    });
    worker.addEventListener("messageerror", () => this.close(makeError("internal", "a message of the worker could not be read")));
  }

  /** Sends a request. `signal` cancels it: the answer rejects at once, and the worker stops at its next step. */
  ask<K extends ToWorker["kind"], T>(request: Ask<K>, signal?: AbortSignal, listeners: Listeners = {}): Pending<T> {
    const id = this.#next_id++;
    const answer = new Promise<T>((resolve, reject) => {
      if (this.#closed) return reject(this.#closed);
      if (signal?.aborted) return reject(abortError());
      const cancel = () => {
        this.#post({ kind: "cancel", id });
        this.#settle(id)?.reject(abortError());
      };
      signal?.addEventListener("abort", cancel, { once: true });
      const done = () => signal?.removeEventListener("abort", cancel);
      this.#entries.set(id, {
        ...listeners,
        resolve: (value) => (done(), resolve(value as T)),
        reject: (error) => (done(), reject(error)),
      });
      this.#post({ ...request, id } as unknown as ToWorker);
    });
    return { id, answer };
  }

  /** Whether the worker has ended. */
  get is_closed(): boolean {
    return this.#closed !== undefined;
  }

  /** Ends a generation softly. */
  interrupt(id: number): void {
    if (this.#entries.has(id)) this.#post({ kind: "interrupt", id });
  }

  /** Stops the worker, whatever it does; what is asked of it, now or later, rejects with `reason`. */
  close(reason: Error): void {
    if (this.#refuse(reason)) this.#stop();
  }

  /** As {@link close}, but the worker gets a moment to store what it has fetched. */
  abort(reason: Error): void {
    if (this.#closed) return;
    for (const id of this.#entries.keys()) {
      this.#lingering.add(id);
      this.#post({ kind: "cancel", id });
    }
    this.#refuse(reason);
    // a worker in the middle of a long step does not hear of a cancel
    setTimeout(() => this.#stop(), MAX_LINGER_MS);
  }

  /** As {@link close}, but the worker first returns the GPU's memory, which a browser would do for it when it finds the time. */
  async dispose(reason: Error): Promise<void> {
    if (!this.#refuse(reason)) return this.#disposal;
    const answered = new Promise<void>((resolve) => (this.#letGo = resolve));
    const late = setTimeout(this.#letGo, DISPOSE_MS);
    this.#post({ kind: "dispose" });
    this.#disposal = answered.then(() => {
      clearTimeout(late);
      this.#stop();
    });
    return this.#disposal;
  }

  /** Takes no more requests, and rejects those under way. → whether it did so for the first time */
  #refuse(reason: Error): boolean {
    if (this.#closed) return false;
    this.#closed = reason;
    for (const id of [...this.#entries.keys()]) this.#settle(id)?.reject(reason);
    return true;
  }

  #stop(): void {
    this.#worker.terminate();
    for (const { controller } of this.#fetches.values()) controller.abort();
  }

  #post(message: ToWorker, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #settle(id: number): Entry | undefined {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    return entry;
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "result":
        this.#settle(message.id)?.resolve(message.value);
        return this.#end(message.id);
      case "error":
        this.#settle(message.id)?.reject(fromWire(message.error));
        return this.#end(message.id);
      case "progress":
        return this.#entries.get(message.id)?.progress?.(message.event);
      case "chunk":
        return this.#entries.get(message.id)?.chunk?.(message.chunk);
      case "prompt":
        return this.#entries.get(message.id)?.prompt?.(message.event);
      case "crashed":
        if (!this.#closed) return this.close(fromWire(message.error));
        this.#letGo();
        return this.#stop();
      case "disposed":
        return this.#letGo();
      case "fetch":
        return void (this.#closed ?? this.#serve(message));
      case "fetch-pull":
        return this.#fetches.get(message.id)?.pulls.add();
      case "fetch-cancel":
        return this.#fetches.get(message.id)?.controller.abort();
      default:
        throw makeError("internal", `unknown message of the worker: ${JSON.stringify(message satisfies never)}`);
    }
  }

  /** The worker has ended a request; one that was aborted has nothing more to do after its last. */
  #end(id: number): void {
    if (this.#lingering.delete(id) && this.#lingering.size === 0) this.#stop();
  }

  async #serve({ id, url, method, headers }: Extract<FromWorker, { kind: "fetch" }>): Promise<void> {
    const [controller, pulls] = [new AbortController(), new Pulls()];
    this.#fetches.set(id, { controller, pulls });
    const fetch: Fetch = this.#fetch ?? ((url, init) => globalThis.fetch(url, init));
    const init = { signal: controller.signal, method, headers };
    await serveFetch(id, url, init, fetch, pulls, (message, transfer) => this.#post(message, transfer));
    this.#fetches.delete(id);
  }
}
