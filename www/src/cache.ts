/** The cached models, for the page's thread. */

import { cacheKey } from "./hub.js";
import { resolve } from "./source.js";
import * as store from "./store.js";
import type { CachedModel, CreateGeneratorOptions, ModelSource } from "./types.js";

/** The same options as for loading; only those that say where a model is matter here. */
type Location = CreateGeneratorOptions;

/** Models that are whole in the cache. */
export async function listModels(): Promise<CachedModel[]> {
  return (await store.listComplete()).map(({ model: _, ...entry }) => entry);
}

/** Whether a model would load without the network. */
export async function isCached(model: ModelSource, options: Location = {}): Promise<boolean> {
  const source = resolve(model, options);
  return source.kind === "files" || store.isComplete(cacheKey(source));
}

/** Deletes what is kept of a model, of every revision unless one is named. */
export async function deleteModel(model: ModelSource, options: Location = {}): Promise<void> {
  const source = resolve(model, options);
  if (source.kind === "files") return;
  const is_wanted = (revision: string) => options.revision === undefined || revision === options.revision;
  const named = (await store.listComplete()).filter((m) => m.name === source.name && is_wanted(m.revision));
  const keys = new Set(named.map((m) => m.model));
  if (is_wanted(source.revision)) keys.add(cacheKey(source)); // also where it is not whole
  for (const key of keys) await store.deleteAll(key);
}

/** What the browser says of its storage, bytes. */
export async function storageEstimate(): Promise<{ usage: number; quota: number }> {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate()) ?? {};
  return { usage, quota };
}
