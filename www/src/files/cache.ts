/** What users of the package can ask of the cache. Runs in the page's thread. */

import type { CachedModel, CreateGeneratorOptions, ModelSource } from "../api/types.js";
import { cacheKey, resolve } from "./source.js";
import * as store from "./store.js";

/** The same options as for loading; only those that say where a model is, and `dtype`, matter here. */
type Options = CreateGeneratorOptions;

/** Models that are in the cache, whole or in part. */
export async function listModels(): Promise<CachedModel[]> {
  if (!(await store.canKeep())) return [];
  return (await store.list()).map(({ model: _, ...entry }) => entry);
}

/** Whether a model would load without the network, in a number format or, for `"auto"`, in any. */
export async function isCached(model: ModelSource, options: Options = {}): Promise<boolean> {
  const source = resolve(model, options);
  const { dtype = "auto" } = options;
  if (source.kind === "files") return true;
  return (await store.canKeep()) && store.isComplete(cacheKey(source), dtype === "auto" ? undefined : dtype);
}

/** Deletes what is kept of a model, whole or in part, of every revision unless one is named. */
export async function deleteModel(model: ModelSource, options: Options = {}): Promise<void> {
  const source = resolve(model, options);
  if (source.kind === "files" || !(await store.canKeep())) return;
  const isWanted = (revision: string) => options.revision === undefined || revision === options.revision;
  const named = (await store.list()).filter((m) => m.name === source.name && isWanted(m.revision));
  const keys = new Set(named.map((m) => m.model));
  // A model of whose weights nothing is there is not listed.
  if (isWanted(source.revision)) keys.add(cacheKey(source));
  for (const key of keys) await store.deleteAll(key);
}

/** How many bytes the site has stored, and how many the browser allows. */
export async function storageEstimate(): Promise<{ usage: number; quota: number }> {
  // A sandboxed frame has no storage to tell of, and a server does not know the question.
  const told = await globalThis.navigator?.storage?.estimate?.().catch(() => undefined);
  return { usage: told?.usage ?? 0, quota: told?.quota ?? 0 };
}
