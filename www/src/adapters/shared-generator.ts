/** Generators that several language models share: loaded for the first, disposed of after the last. */

import { abortError } from "../api/errors.js";
import { createGenerator, type Generator } from "../api/generator.js";
import type { CreateGeneratorOptions, ModelSource, ProgressEvent } from "../api/types.js";

/** What is loaded, and how. Progress is told to everybody who waits, and an abort ends only one's own wait. */
export interface SharedSource {
  model: ModelSource;
  options: Omit<CreateGeneratorOptions, "progress_callback" | "signal">;
}

/** A share of a generator. */
export interface Share {
  generator: Generator;
  /** Another share of the same generator. */
  again(): Share;
  /** Gives the share back; the last one ends the generator. */
  release(): Promise<void>;
}

interface Entry {
  generator: Promise<Generator>;
  /** The same generator, once it is there. */
  loaded: Generator | undefined;
  /** Ends the load when nobody waits for it any more. */
  controller: AbortController;
  users: number;
  listeners: Set<(event: ProgressEvent) => void>;
}

/** By model, then by options: the same objects, or equal text, mean the same generator. */
const entries = new Map<unknown, Entry>();

/** Options are told apart by what they say, and functions and workers among them by who they are. */
const identities = new WeakMap<object, number>();
let nIdentities = 0;

function keyOf({ model, options }: SharedSource): string {
  const identity = (value: unknown): unknown => {
    if (value instanceof URL) return value.href;
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return value;
    if (!identities.has(value)) identities.set(value, nIdentities++);
    return { object: identities.get(value) };
  };
  const said = Object.entries(options).filter(([, value]) => value !== undefined);
  return JSON.stringify([identity(model), said.sort().map(([name, value]) => [name, identity(value)])]);
}

/** Whether a generator is loaded, is being loaded, or neither. */
export function stateOf(source: SharedSource): "available" | "downloading" | undefined {
  const entry = entries.get(keyOf(source));
  return entry && (entry.loaded ? "available" : "downloading");
}

/** Takes a share of a generator, and loads it if nobody has. */
export async function share(
  source: SharedSource,
  signal: AbortSignal | undefined,
  listener: (event: ProgressEvent) => void,
): Promise<Share> {
  const key = keyOf(source);
  const entry = entries.get(key) ?? load(key, source);
  entry.users++;
  entry.listeners.add(listener);
  const held = hold(key, entry);
  try {
    return { ...held, generator: await unlessAborted(entry.generator, signal) };
  } catch (error) {
    await held.release();
    throw error;
  } finally {
    entry.listeners.delete(listener);
  }
}

/** A share that is counted already. */
function hold(key: string, entry: Entry): Omit<Share, "generator"> {
  let isReleased = false;
  return {
    async release() {
      if (isReleased) return;
      isReleased = true;
      if (--entry.users > 0) return;
      if (entries.get(key) === entry) entries.delete(key);
      if (!entry.loaded) entry.controller.abort();
      // A load that fails is told to those who wait for it.
      const generator = await entry.generator.catch(() => undefined);
      await generator?.dispose();
    },
    again() {
      if (!entry.loaded || isReleased) throw new Error("a share of a generator that is not held");
      entry.users++;
      return { ...hold(key, entry), generator: entry.loaded };
    },
  };
}

function load(key: string, { model, options }: SharedSource): Entry {
  const [controller, listeners] = [new AbortController(), new Set<(event: ProgressEvent) => void>()];
  const generator = createGenerator(model, {
    ...options,
    signal: controller.signal,
    progress_callback: (event) => {
      for (const listener of listeners) listener(event);
    },
  });
  const entry: Entry = { generator, loaded: undefined, controller, users: 0, listeners };
  entries.set(key, entry);
  generator.then(
    (ready) => (entry.loaded = ready),
    () => {
      if (entries.get(key) === entry) entries.delete(key); // the next one tries again
    },
  );
  return entry;
}

/** Waits, but no longer than until an abort, with whose reason it then rejects. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  let cancel = () => {};
  const aborted = new Promise<never>((_, reject) => {
    cancel = () => reject(signal.reason ?? abortError());
    if (signal.aborted) cancel();
    else signal.addEventListener("abort", cancel, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}
