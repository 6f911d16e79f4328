/** Keeps a run's state as it changes: always the newest, and never two at once. */

import { messageOf } from "../api/errors.js";
import { deleteRun, keepRun, keepState, type RunEntry, type StateEntry } from "./store.js";

export class StateWriter {
  #run: RunEntry;
  #warn: (message: string) => void;
  /** What is to be written next. */
  #next: StateEntry | undefined;
  /** Ends when nothing is left to write. */
  #writing: Promise<void> | undefined;
  /** Whether anything failed, after which nothing more is written. */
  #hasFailed = false;

  constructor(run: RunEntry, warn: (message: string) => void) {
    [this.#run, this.#warn] = [run, warn];
    this.#writing = this.#try(() => keepRun(run));
  }

  /** Keeps a state, in the place of one that has not been written yet. */
  keep(state: StateEntry): void {
    this.#next = state;
    this.#writing = (this.#writing ?? Promise.resolve()).then(async () => {
      const newest = this.#next;
      this.#next = undefined;
      if (newest) await this.#try(() => keepState(newest));
    });
  }

  /** Forgets the run. */
  async forget(): Promise<void> {
    this.#next = undefined;
    await this.#writing;
    await this.#try(() => deleteRun(this.#run.id));
  }

  async #try(write: () => Promise<unknown>): Promise<void> {
    if (this.#hasFailed) return;
    try {
      await write();
    } catch (error) {
      this.#hasFailed = true;
      this.#warn(`after a reload, learning cannot go on: its state is not kept (${messageOf(error)})`);
    }
  }
}
