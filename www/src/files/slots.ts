/** The two places in the cache for a model: what is whole stays in one until its replacement in the other is whole. */

import * as store from "./store.js";

/** The other place of a model, given one of them. */
export const twinOf = (slot: string) => (slot.endsWith("#next") ? slot.slice(0, -"#next".length) : `${slot}#next`);

/** The place that is read: the one whose model is whole, the newer one if both are, else the first. */
export async function currentSlot(key: string): Promise<string> {
  const next = twinOf(key);
  const [first, second] = await Promise.all([store.wholeSince(key), store.wholeSince(next)]);
  return second !== undefined && (first === undefined || second > first) ? next : key;
}

/** The place for a load: where the model is, or, for one that takes the place of a whole model, the other one. */
export async function slotFor(key: string, isAnew: boolean): Promise<{ slot: string; replaces: string | undefined }> {
  const slot = await currentSlot(key);
  if (isAnew && (await store.wholeSince(slot)) !== undefined) return { slot: twinOf(slot), replaces: slot };
  return { slot, replaces: undefined };
}
