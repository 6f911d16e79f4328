/** The texts of a model: those of open sessions, and the last ones of `generate`, whose beginnings are used again. */

import type { Model, Session } from "../../wasm/gpt2_web.js";
import { makeError } from "../api/errors.js";
import { isTrap } from "./wasm.js";

/** So many texts of `generate` are kept. */
const MAX_KEPT = 4;

/**
 * What the caches of texts that nobody is writing may take together. Beyond that, those that were not used for longest
 * are freed, and filled again when their text goes on; that gives the same text.
 */
const MAX_IDLE_BYTES = 512 * 2 ** 20;

export class Texts {
  #model: Model;
  #open = new Map<number, Session>();
  #nextNumber = 1;
  /** What has to be done with each open session before the next thing. */
  #queues = new Map<number, Promise<unknown>>();
  /** Texts of `generate` that are complete. */
  #kept = new Set<Session>();
  /** Texts of `generate` that are being written. */
  #taken = new Set<Session>();
  /** All texts that are not being written, the most recently used last. */
  #idle = new Set<Session>();

  constructor(model: Model) {
    this.#model = model;
  }

  /**
   * Does something with a text that has these tokens and what is known of their beginning, if `mayReuse`. The text is
   * kept afterwards.
   */
  async withTokens<T>(ids: Uint32Array, mayReuse: boolean, run: (session: Session) => Promise<T>): Promise<T> {
    const session = this.#best(ids) ?? this.#model.session();
    this.#kept.delete(session);
    this.#idle.delete(session);
    this.#taken.add(session);
    return this.#afterwards(
      () => {
        session.replace(ids, mayReuse);
        return run(session);
      },
      () => this.#keep(session),
    );
  }

  #keep(session: Session): void {
    this.#taken.delete(session);
    this.#kept.add(session);
    this.#use(session);
    for (const oldest of this.#kept) {
      if (this.#kept.size <= MAX_KEPT) break;
      this.#free(oldest);
    }
  }

  /** The text to begin from: another's copy, if that is to stay, or itself. */
  #best(ids: Uint32Array): Session | undefined {
    let [best, nBest] = [undefined as Session | undefined, 0];
    for (const session of this.#kept) {
      const nCommon = session.nCommon(ids);
      if (nCommon > nBest) [best, nBest] = [session, nCommon];
    }
    // The same prompt again, or more of the same text: what lies behind it is not looked for again.
    const isSame = best && (nBest >= ids.length - 1 || 2 * nBest >= best.contextUsage());
    return isSame ? best : best?.clone();
  }

  /** Opens a session. Returns its number. */
  open(session: Session): number {
    this.#open.set(this.#nextNumber, session);
    this.#use(session);
    return this.#nextNumber++;
  }

  /** Does something with an open session when all that was asked of it before is done. */
  with<T>(number: number, run: (session: Session) => T | Promise<T>): Promise<T> {
    return this.#inOrder(number, async () => {
      const session = this.#open.get(number);
      if (!session) throw makeError("disposed", `session ${number} is disposed`);
      this.#idle.delete(session);
      return this.#afterwards(
        () => run(session),
        () => this.#use(session),
      );
    });
  }

  /** Closes a session, when all that was asked of it before is done. Returns whether it was open. */
  close(number: number): Promise<boolean> {
    return this.#inOrder(number, async () => {
      const session = this.#open.get(number);
      if (session) this.#free(session);
      return this.#open.delete(number);
    });
  }

  /** Does something and then, unless WebAssembly has trapped in it, something else. */
  async #afterwards<T>(run: () => T | Promise<T>, then: () => void): Promise<T> {
    let result: T;
    try {
      result = await run();
    } catch (error) {
      if (!isTrap(error)) then();
      throw error;
    }
    then();
    return result;
  }

  #inOrder<T>(number: number, run: () => Promise<T>): Promise<T> {
    const result = (this.#queues.get(number) ?? Promise.resolve()).then(run);
    const done = result
      .catch(() => undefined) // whoever asked for it is told
      .then(() => {
        if (this.#queues.get(number) === done) this.#queues.delete(number);
      });
    this.#queues.set(number, done);
    return result;
  }

  /** Open sessions. */
  get nOpen(): number {
    return this.#open.size;
  }

  /** Bytes of the caches of texts that nobody is writing. */
  idleBytes(): number {
    let n = 0;
    for (const session of this.#idle) n += session.cacheBytes();
    return n;
  }

  /** Takes all texts to another load of the same model. Those that are written go with their scheduler. */
  moveTo(model: Model): void {
    this.#model = model;
    for (const session of [...this.#open.values(), ...this.#kept, ...this.#taken]) model.takeOver(session);
  }

  /** Notes that a text was used just now, and frees what is too much. */
  #use(session: Session): void {
    this.#idle.delete(session);
    this.#idle.add(session);
    let nBytes = this.idleBytes();
    for (const oldest of this.#idle) {
      if (nBytes <= MAX_IDLE_BYTES) return;
      nBytes -= oldest.cacheBytes();
      if (this.#kept.has(oldest)) this.#free(oldest);
      else oldest.dropCache();
    }
  }

  #free(session: Session): void {
    this.#kept.delete(session);
    this.#idle.delete(session);
    session.free();
  }
}
