/** Keeps a run's state as it changes: always the newest, never two at once, and not so often that it takes the time. */

import { messageOf } from "../api/errors.js";
import { deleteRun, keepRun, keepState, type RunEntry, type StateEntry } from "./store.js";

/** Between two writes lies so many times what the first one took. */
const REST = 9;

export class StateWriter {
  #run: RunEntry;
  #warn: (message: string) => void;
  /** What is to be written next. */
  #next: StateEntry | undefined;
  /** Ends when nothing is left to write. */
  #writing: Promise<void> | undefined;
  /** Whether anything failed, or the run is over: nothing more is written. */
  #isClosed = false;
  /** Ends the rest between two writes. */
  #hurry: () => void = () => {};

  constructor(run: RunEntry, warn: (message: string) => void) {
    [this.#run, this.#warn] = [run, warn];
    this.#writing = this.#write(() => keepRun(run));
  }

  /** Keeps a state, in the place of one that has not been written yet. */
  keep(state: StateEntry): void {
    this.#next = state;
    this.#writing ??= this.#write();
  }

  /** Forgets the run. */
  async forget(): Promise<void> {
    const mayDelete = !this.#isClosed;
    this.#isClosed = true;
    this.#hurry();
    await this.#writing;
    if (mayDelete) await this.#try(() => deleteRun(this.#run.id));
  }

  async #write(first?: () => Promise<void>): Promise<void> {
    if (first) await this.#try(first);
    for (let state = this.#next; state && !this.#isClosed; state = this.#next) {
      this.#next = undefined;
      const newest = state;
      const startMs = performance.now();
      await this.#try(() => keepState(newest));
      await this.#rest(REST * (performance.now() - startMs));
    }
    this.#writing = undefined;
  }

  #rest(ms: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const late = setTimeout(resolve, ms);
      this.#hurry = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  async #try(write: () => Promise<unknown>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#isClosed = true;
      this.#warn(`after a reload, learning cannot go on: its state is not kept (${messageOf(error)})`);
    }
  }
}
