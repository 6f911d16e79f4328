/** An element's hold on a model: a share of one that elements load together, or one that the page gave it. */

import type { Generator, ProgressEvent } from "../api/index.js";
import { choiceOf } from "./attributes.js";
import { acquire, discard, Lease, release } from "./shared.js";

/** What a hold tells its element. */
export interface HoldEvents {
  progress(event: ProgressEvent): void;
  /** A model that was loaded for the element is ready. */
  loaded(generator: Generator): void;
  /** A model could not be given back. */
  failed(error: unknown): void;
}

/** The model of one element. */
export class Hold {
  readonly #element: HTMLElement;
  readonly #events: HoldEvents;
  #given: Generator | null = null;
  /** The model in use, and the lease on it: both there or neither. */
  #generator: Generator | null = null;
  #lease: Lease | null = null;
  /** The load under way, and what cancels it. */
  #loading: Promise<Generator> | null = null;
  #controller = new AbortController();

  constructor(element: HTMLElement, events: HoldEvents) {
    [this.#element, this.#events] = [element, events];
  }

  /** The model that is there; null where none is loaded. */
  get generator(): Generator | null {
    return this.#given ?? this.#generator;
  }

  /** Whether a load is under way. */
  get isLoading(): boolean {
    return this.#loading !== null;
  }

  /** Uses the page's own generator from now on, which is never disposed of here. */
  give(generator: Generator | null): void {
    this.#given = generator;
  }

  /**
   * The model, loaded if need be as the element's attributes say. Rejects with `AbortError` where that is cancelled.
   */
  load(): Promise<Generator> {
    const { generator } = this;
    if (generator) return Promise.resolve(generator);
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /** Cancels the load under way. */
  cancel(): void {
    this.#controller.abort(new DOMException("loading was cancelled", "AbortError"));
  }

  /** The device is lost: the next load makes a new generator. */
  lost(): void {
    if (this.#lease) discard(this.#lease);
    this.#given = null;
    this.letGo(Promise.resolve());
  }

  /** Gives the model back as soon as `used` has settled, which never rejects, and cancels a load. */
  letGo(used: Promise<unknown>): void {
    this.cancel();
    const lease = this.#lease;
    this.#lease = null;
    this.#generator = null;
    if (lease) used.then(() => release(lease)).catch((error: unknown) => this.#events.failed(error));
  }

  async #load(): Promise<Generator> {
    const controller = new AbortController();
    this.#controller = controller;
    const lease = new Lease((event) => this.#events.progress(event));
    const generator = await acquire(lease, choiceOf(this.#element), controller.signal);
    this.#lease = lease;
    this.#generator = generator;
    this.#events.loaded(generator);
    return generator;
  }
}
