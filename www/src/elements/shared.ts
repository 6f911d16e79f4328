/** One generator for all elements of a page that ask for the same model, disposed of with the last of them. */

import type { CreateGeneratorOptions, Generator, ProgressEvent } from "../api/index.js";
import { createGenerator } from "../api/index.js";

/** What an element's attributes say about loading. Elements whose choices are equal share a generator. */
export interface Choice {
  model: string;
  options: Pick<CreateGeneratorOptions, "device" | "dtype" | "revision">;
}

/** Stands for one use of a generator, from `acquire` to `release`. */
export class Lease {
  /** Called with each step of loading. */
  readonly progress: (event: ProgressEvent) => void;
  constructor(progress: (event: ProgressEvent) => void) {
    this.progress = progress;
  }
}

interface Entry {
  key: string;
  /** Never empty while the entry is in `entries`, except within `acquire` before its first await. */
  leases: Set<Lease>;
  controller: AbortController;
  generator: Promise<Generator>;
  /** Whether new leases must not use it; it is disposed of with its last lease like any other. */
  discarded: boolean;
}

const entries = new Set<Entry>();

function keyOf(choice: Choice): string {
  const { device, dtype, revision } = choice.options;
  return JSON.stringify([choice.model, device, dtype, revision]);
}

function open(key: string, choice: Choice): Entry {
  const controller = new AbortController();
  const leases: Entry["leases"] = new Set();
  const generator = createGenerator(choice.model, {
    ...choice.options,
    signal: controller.signal,
    progress_callback: (event) => {
      for (const lease of leases) lease.progress(event);
    },
  });
  const entry: Entry = { key, leases, controller, generator, discarded: false };
  entries.add(entry);
  // A load that failed is not kept, so that the next use tries again. Its leases get the error in `acquire`.
  generator.catch(() => entries.delete(entry));
  return entry;
}

/**
 * The generator for `choice`, loaded if nobody has it yet; `lease` counts as a use of it until `release`.
 *
 * Rejects as `createGenerator` does, and with `AbortError` when `signal` is aborted, which stops the load itself only
 * if nobody else waits for it. A lease that got no generator need not be released.
 */
export async function acquire(lease: Lease, choice: Choice, signal: AbortSignal): Promise<Generator> {
  signal.throwIfAborted();
  const key = keyOf(choice);
  const entry = [...entries].find((other) => other.key === key && !other.discarded) ?? open(key, choice);
  entry.leases.add(lease);
  let abandon = (): void => undefined;
  const abandoned = new Promise<never>((_, reject) => {
    abandon = (): void => reject(signal.reason);
    signal.addEventListener("abort", abandon, { once: true });
  });
  try {
    const generator = await Promise.race([entry.generator, abandoned]);
    signal.throwIfAborted();
    return generator;
  } catch (error) {
    await release(lease);
    throw error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

/** Ends a lease. With the last lease on it a load is cancelled, or a generator disposed of. */
export async function release(lease: Lease): Promise<void> {
  for (const entry of entries) {
    if (!entry.leases.delete(lease) || entry.leases.size > 0) continue;
    entries.delete(entry);
    entry.controller.abort();
    const generator = await entry.generator.catch(() => null); // a failed load has nothing to dispose of
    await generator?.dispose();
  }
}

/** Notes that the generator of `lease` has lost its device: the next `acquire` loads anew. */
export function discard(lease: Lease): void {
  for (const entry of entries) if (entry.leases.has(lease)) entry.discarded = true;
}
