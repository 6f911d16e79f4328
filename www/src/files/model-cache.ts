/** What the cache keeps of one model, for as long as the cache works. Runs in the worker. */

import type { WireModel } from "../api/messages.js";
import { slotFor } from "./slots.js";
import { cacheKey } from "./source.js";
import * as store from "./store.js";
import { holdsWeights, isWeights, packedParts } from "./weight-files.js";

/** Where a load keeps its files, and the place that is given up for it when they are whole. */
export type Place = Awaited<ReturnType<typeof slotFor>>;

/** The place for a load of a model. Where the cache cannot be read, that is told when it is used. */
export async function placeFor(model: WireModel & { kind: "url" }, isAnew: boolean): Promise<Place> {
  const key = cacheKey(model);
  return slotFor(key, isAnew).catch(() => ({ slot: key, replaces: undefined }));
}

/**
 * Stops using the cache when it fails, and keeping the checkpoint's own weights when it is full; tells of each once.
 */
export class ModelCache {
  readonly key: string;
  readonly #model: WireModel & { kind: "url" };
  readonly #onFailure: (warning: string) => void;
  /** Whether anything can be kept. */
  #works = true;
  /** Whether there is room for the weights as they arrive. */
  #hasRoom = true;
  #begun: Promise<void> | undefined;
  /** The place of the model that this one is to replace. */
  #replaces: string | undefined;

  constructor(model: WireModel & { kind: "url" }, place: Place, onFailure: (warning: string) => void) {
    [this.key, this.#model, this.#onFailure] = [place.slot, model, onFailure];
    this.#replaces = place.replaces;
  }

  /** The model that was here before is forgotten, now that this one is whole. */
  async takeOver(): Promise<void> {
    const old = this.#replaces;
    if (old === undefined || !(await this.isComplete())) return;
    await this.try(() => store.deleteAll(old));
    this.#replaces = undefined;
  }

  get works(): boolean {
    return this.#works;
  }

  get hasRoom(): boolean {
    return this.#hasRoom;
  }

  /** Whether this file's bytes are to be kept. */
  keeps(file: string): boolean {
    return this.#works && (this.#hasRoom || !holdsWeights(file));
  }

  /** Makes an entry for the model, unless it has one. */
  begin(): Promise<void> {
    this.#begun ??= store.begin(this.key, this.#model.name, this.#model.revision);
    return this.#begun;
  }

  /**
   * Does something with the cache if it works. A failure is no error: the answer is `undefined`, and the cache is given
   * up, unless the action was for a `file` that is no longer to be kept.
   */
  async try<T>(action: () => Promise<T>, file?: string): Promise<T | undefined> {
    if (!this.#works) return undefined;
    try {
      return await action();
    } catch (error) {
      // Several actions may be under way when one of them fails.
      if (this.#works && (file === undefined || this.keeps(file))) await this.#giveUp(error);
      return undefined;
    }
  }

  /** What is known of a file. */
  find(file: string): Promise<store.FileEntry | undefined> {
    return this.try(() => store.findFile(this.key, file));
  }

  /** Whether the model can be loaded without the network. */
  async isComplete(): Promise<boolean> {
    return (await this.try(() => store.isComplete(this.key))) ?? false;
  }

  /** Forgets what is kept of a file that begins anew. */
  async clear(file: string): Promise<void> {
    if (this.keeps(file)) await this.try(() => this.begin().then(() => store.deleteFiles(this.key, [file])), file);
  }

  /** Forgets a file. */
  async drop(file: string): Promise<void> {
    await this.try(() => store.deleteFiles(this.key, [file]));
  }

  async #giveUp(error: unknown): Promise<void> {
    if (!store.isFull(error)) {
      this.#works = false;
    } else if (this.#hasRoom) {
      this.#hasRoom = false;
      // Weights that cannot become whole take room that their packed form may need.
      const files = await store.filesOf(this.key).catch(() => []);
      const isLeft = ({ file, whole }: store.FileEntry) => isWeights(file) || (packedParts(file) !== null && !whole);
      const left = files.filter(isLeft).map((f) => f.file);
      await store.deleteFiles(this.key, left).catch(() => undefined);
    } else {
      return;
    }
    this.#onFailure(`not cached: ${whyNotKept(error)}`);
  }
}

/** Why something could not be kept, in words for the user. */
export function whyNotKept(error: unknown): string {
  const { name, message, code } = error as Error & { code?: unknown };
  if (typeof code === "string") return message; // it is not the cache that has failed
  const what = store.isFull(error) ? "the browser's storage is full" : "IndexedDB cannot be used";
  return `${what} (${message || name})`;
}
