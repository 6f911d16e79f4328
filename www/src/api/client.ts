/** The page's end of the worker: requests, answers, events. */

import { Pulls, serveFetch } from "../files/proxy-fetch.js";
import type { Fetch } from "../files/request.js";
import { fromWire, makeError, reasonOf } from "./errors.js";
import type { Answer, Body, FromWorker, Kept, RequestName, Result, ToWorker } from "./messages.js";
import type { Chunk, CreateGeneratorOptions, ProgressEvent, PromptProgress } from "./types.js";

/** How long a worker may go on after an abort. To store what it has fetched takes some 50 ms. */
const MAX_LINGER_MS = 2000;

/**
 * How long a worker has to keep its weights and to return its GPU's memory: a busy driver makes it wait, and one that
 * hangs never answers.
 */
const DISPOSE_MS = 10_000;

/** What a request may tell before it is answered. */
export interface Listeners {
  chunk?: (chunk: Chunk) => void;
  progress?: (event: ProgressEvent) => void;
  /** Of a load: called once, after its answer, or when the worker ends. */
  kept?: (kept: Kept) => void;
  prompt?: (event: PromptProgress) => void;
}

/** A request under way. */
export interface Pending<T> {
  id: number;
  answer: Promise<T>;
}

interface Entry extends Listeners {
  reject(error: unknown): void;
  /** Called when the request is settled, either way. */
  done(): void;
}

/** What takes the answers to requests under way: by the request's name, then by its number. */
type Resolvers = { [N in RequestName]: Map<number, (value: Answer<N>) => void> };

export class Client {
  #worker: Worker;
  /** Requests under way, by their numbers. */
  #entries = new Map<number, Entry>();
  #resolvers: Resolvers = {
    load: new Map(),
    estimate: new Map(),
    generate: new Map(),
    score: new Map(),
    encode: new Map(),
    decode: new Map(),
    stats: new Map(),
    "session-open": new Map(),
    "session-append": new Map(),
    "session-rewind": new Map(),
    "session-close": new Map(),
    "adapter-load": new Map(),
    "adapter-set": new Map(),
    "adapter-unload": new Map(),
    "adapter-list": new Map(),
    weights: new Map(),
    "weights-read": new Map(),
    "small-files": new Map(),
  };
  /** Who is told of loads that may be answered, but whose weights are not kept yet, by their numbers. */
  #unkept = new Map<number, Listeners>();
  #fetches = new Map<number, { controller: AbortController; pulls: Pulls }>();
  #fetch: NonNullable<CreateGeneratorOptions["fetch"]> | undefined;
  #nextId = 1;
  /** Why nothing more can be asked. */
  #closed: { reason: unknown } | undefined;
  /** Requests that were aborted with everything else, and that the worker has not ended yet. */
  #lingering = new Set<number>();
  #disposal: Promise<void> | undefined;
  /** Ends the wait for a worker that is to be disposed of. */
  #letGo = () => {};

  /** `script`: where the worker's script is, if the caller did not start it. */
  constructor(worker: Worker, fetch: CreateGeneratorOptions["fetch"], script?: string) {
    this.#worker = worker;
    this.#fetch = fetch;
    worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => this.#receive(data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#letGo();
      const served = script === undefined ? "" : ` (is ${script} served? The option \`worker\` takes another one)`;
      const why = event.message || `its script could not be loaded${served}`;
      this.close(makeError("internal", `the worker failed: ${why}`));
    });
    worker.addEventListener("messageerror", () =>
      this.close(makeError("internal", "a message of the worker could not be read")),
    );
  }

  /** Sends a request. `signal` cancels it: the answer rejects at once, and the worker stops at its next step. */
  ask<N extends RequestName>(
    name: N,
    body: Body<N>,
    signal?: AbortSignal,
    listeners: Listeners = {},
  ): Pending<Answer<N>> {
    const id = this.#nextId++;
    const answer = new Promise<Answer<N>>((resolve, reject) => {
      if (this.#closed) return reject(this.#closed.reason);
      if (signal?.aborted) return reject(reasonOf(signal));
      const resolvers = this.#resolvers[name];
      const cancel = () => {
        this.#post({ kind: "cancel", id });
        if (signal) this.#fail(id, reasonOf(signal));
      };
      signal?.addEventListener("abort", cancel, { once: true });
      const done = () => {
        signal?.removeEventListener("abort", cancel);
        this.#entries.delete(id);
        resolvers.delete(id);
      };
      this.#entries.set(id, { ...listeners, reject, done });
      if (listeners.kept) this.#unkept.set(id, listeners);
      resolvers.set(id, resolve);
      this.#post({ kind: "request", id, name, body });
    });
    return { id, answer };
  }

  /** Whether the worker has ended. */
  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Ends a generation softly. */
  interrupt(id: number): void {
    if (this.#entries.has(id)) this.#post({ kind: "interrupt", id });
  }

  /** Stops the worker, whatever it does; what is asked of it, now or later, rejects with `reason`. */
  close(reason: unknown): void {
    if (this.#refuse(reason)) this.#stop();
  }

  /** As {@link close}, but the worker gets a moment to store what it has fetched. */
  abort(reason: unknown): void {
    if (this.#closed) return;
    for (const id of this.#entries.keys()) {
      this.#lingering.add(id);
      this.#post({ kind: "cancel", id });
    }
    this.#refuse(reason);
    // A worker in the middle of a long step does not hear of a cancel.
    setTimeout(() => this.#stop(), MAX_LINGER_MS);
  }

  /**
   * As {@link close}, but the worker first keeps what it is about to keep, and returns the GPU's memory: a browser may
   * take long to do so when a worker ends.
   */
  async dispose(reason: Error): Promise<void> {
    if (!this.#refuse(reason)) return this.#disposal;
    const answered = new Promise<void>((resolve) => {
      this.#letGo = resolve;
    });
    const late = setTimeout(this.#letGo, DISPOSE_MS);
    this.#post({ kind: "dispose" });
    this.#disposal = answered.then(() => {
      clearTimeout(late);
      this.#stop();
    });
    return this.#disposal;
  }

  /** Takes no more requests, and rejects those under way. Returns whether it did so for the first time. */
  #refuse(reason: unknown): boolean {
    if (this.#closed) return false;
    this.#closed = { reason };
    for (const id of [...this.#entries.keys()]) this.#fail(id, reason);
    return true;
  }

  #stop(): void {
    this.#worker.terminate();
    for (const { kept } of this.#unkept.values()) kept?.({ kept: false, warnings: [] });
    this.#unkept.clear();
    for (const { controller } of this.#fetches.values()) controller.abort();
  }

  #post(message: ToWorker, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  /** Settles a request with its answer, unless it is settled. */
  #resolve<N extends RequestName>({ id, name, value }: Result<N>): void {
    const resolve = this.#resolvers[name].get(id);
    this.#entries.get(id)?.done();
    resolve?.(value);
  }

  /** Settles a request with an error, unless it is settled. */
  #fail(id: number, error: unknown): void {
    const entry = this.#entries.get(id);
    entry?.done();
    entry?.reject(error);
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "result":
        this.#resolve(message);
        this.#end(message.id);
        break;
      case "error":
        this.#unkept.delete(message.id);
        this.#fail(message.id, fromWire(message.error));
        this.#end(message.id);
        break;
      case "progress":
        (this.#entries.get(message.id) ?? this.#unkept.get(message.id))?.progress?.(message.event);
        break;
      case "kept":
        this.#unkept.get(message.id)?.kept?.(message);
        this.#unkept.delete(message.id);
        break;
      case "chunk":
        this.#entries.get(message.id)?.chunk?.(message.chunk);
        break;
      case "prompt":
        this.#entries.get(message.id)?.prompt?.(message.event);
        break;
      case "crashed":
        if (!this.#closed) {
          this.close(fromWire(message.error));
        } else {
          this.#letGo();
          this.#stop();
        }
        break;
      case "disposed":
        this.#letGo();
        break;
      case "fetch":
        if (!this.#closed) void this.#serve(message);
        break;
      case "fetch-pull":
        this.#fetches.get(message.id)?.pulls.add();
        break;
      case "fetch-cancel":
        this.#fetches.get(message.id)?.controller.abort();
        break;
      default:
        throw makeError("internal", `unknown message of the worker: ${JSON.stringify(message satisfies never)}`);
    }
  }

  /** Notes that the worker has ended a request. After {@link abort}, it is stopped when it has ended the last one. */
  #end(id: number): void {
    if (this.#lingering.delete(id) && this.#lingering.size === 0) this.#stop();
  }

  async #serve({ id, url, method, headers }: Extract<FromWorker, { kind: "fetch" }>): Promise<void> {
    const [controller, pulls] = [new AbortController(), new Pulls()];
    this.#fetches.set(id, { controller, pulls });
    const fetch: Fetch = this.#fetch ?? ((url, init) => globalThis.fetch(url, init));
    const init = { signal: controller.signal, method, headers };
    await serveFetch({ id, url, init, fetch, pulls, post: (message, transfer) => this.#post(message, transfer) });
    this.#fetches.delete(id);
  }
}
