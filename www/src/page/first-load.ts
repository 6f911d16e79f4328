/** Which model a visit begins with. No visit begins with a large download that nobody asked for. */

import { messageOf } from "../api/errors.js";
import type { Device, DType, ModelSource } from "../api/index.js";
import { isCached } from "../api/index.js";
import { byId, note } from "./dom.js";
import { isEngineTaken, load } from "./engine.js";
import { openView } from "./router.js";

/** Opens Models with what it takes to load something, so that a press of a button there decides. */
export async function offer(source: ModelSource): Promise<void> {
  await openView("models");
  const { choose } = await import("./models/chooser.js");
  await choose(source);
}

async function isHere(name: string, dtype: DType): Promise<boolean> {
  if (name === "demo") return true;
  try {
    return await isCached(name, { dtype });
  } catch (error) {
    note(`Not known whether ${name} is still on this machine: ${messageOf(error)}.`);
    return false;
  }
}

/**
 * Loads what a link or the last visit names, if it is on this machine, else the demo. A link's model is then offered.
 */
export async function startFirstLoad(linkedModel: string | null): Promise<void> {
  const wanted = byId("model", HTMLInputElement).value.trim() || "demo";
  const device = byId("device", HTMLSelectElement).value as Device;
  const dtype = byId("dtype", HTMLSelectElement).value as DType;
  const here = await isHere(wanted, dtype);
  // A link may be opened from a file picker's page at once, and the user may have chosen a model meanwhile.
  if (!isEngineTaken()) load({ source: here ? wanted : "demo", device, dtype });
  if (!here && linkedModel !== null) await offer(linkedModel);
  else if (!here) byId("model", HTMLInputElement).value = "demo";
}
