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

/** Deletes what is kept of a model, of every revision unless one is named, whole or not. */
export async function deleteModel(model: ModelSource, options: Location = {}): Promise<void> {
  const source = resolve(model, options);
  if (source.kind === "files") return;
  const named = (await store.listComplete()).filter((m) => m.name === source.name && options.revision === undefined);
  for (const key of new Set([cacheKey(source), ...named.map((m) => m.model)])) await store.deleteAll(key);
}

/** What the browser says of its storage, bytes. */
export async function storageEstimate(): Promise<{ usage: number; quota: number }> {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate()) ?? {};
  return { usage, quota };
}
