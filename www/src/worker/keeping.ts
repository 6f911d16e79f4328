/** Keeping a model's packed weights for the next visit, while the model writes already. */

import type { Model } from "../../wasm/gpt2_web.js";
import { abortError, isAbort } from "../api/errors.js";
import type { Kept } from "../api/messages.js";
import type { Hub } from "../files/hub.js";
import { release } from "../files/release.js";
import type { Progress } from "./progress.js";

/** Bytes of packed weights that are moved at once. */
const PIECE_BYTES = 4 << 20;

/** What is to be kept. */
interface KeepingRequest {
  hub: Hub;
  model: Model;
  /** The name of the packed file, and its size. */
  name: string;
  bytes: number;
  /** The files that the weights were made from; none where they came packed. */
  files: string[];
  /** What was told when they were packed, if they came so. */
  warnings: string[];
  progress: Progress;
  /** Takes what has gone wrong so far, without what was told before. */
  takeWarnings: () => string[];
}

/** A keeping that has begun. */
export class Keeping {
  /** Resolves when it is over, one way or another. */
  readonly done: Promise<Kept>;
  #isStopped = false;

  constructor(request: KeepingRequest) {
    this.done = this.#run(request);
  }

  /** Ends it early: what the weights were made from stays in the cache. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.done;
  }

  async #run({ hub, model, name, bytes, files, progress, takeWarnings, ...told }: KeepingRequest): Promise<Kept> {
    const isThere = async () => (await hub.packedSizes()).some((packed) => packed.name === name);
    try {
      if (!(await isThere())) {
        const warnings = [...new Set([...told.warnings, ...model.warnings()])];
        const chunks = this.#pieces(model, bytes, (loaded) => progress.keeping(name, loaded, bytes));
        await hub.keepPacked({ name, bytes, chunks, replaces: files, warnings });
        await hub.complete();
      }
      return { kept: await isThere(), warnings: takeWarnings() };
    } catch (error) {
      const told = isAbort(error) ? [] : [`${name}: not cached: ${(error as Error).message}`];
      return { kept: false, warnings: [...takeWarnings(), ...told] };
    } finally {
      await hub.close();
    }
  }

  /** The weights, piece by piece; each piece is there until the next one is asked for. */
  async *#pieces(model: Model, nBytes: number, tell: (loaded: number) => void): AsyncGenerator<Uint8Array> {
    tell(0);
    for (let offset = 0; offset < nBytes; offset += PIECE_BYTES) {
      if (this.#isStopped) throw abortError();
      const piece = await model.readPacked(offset, Math.min(PIECE_BYTES, nBytes - offset));
      yield piece;
      tell(offset + piece.byteLength);
      release(piece);
    }
  }
}
