/** Whether the packed weights of a converted folder are what a load needs, and what happens if they are not. */

import { invalidOption, makeError } from "../api/errors.js";
import { type Hub, readText } from "../files/hub.js";
import { MANIFEST, type Manifest, type PublishedWeights, readManifest } from "../files/manifest.js";
import { wasm } from "./wasm.js";

/**
 * What the folder says of itself; `null` where it is a checkpoint as it was published. It is fetched while WebAssembly
 * starts (`started`).
 */
export async function findManifest(hub: Hub, started: Promise<unknown>): Promise<Manifest | null> {
  const [json] = await Promise.all([hub.open(MANIFEST).then((file) => file && readText(file)), started]);
  if (json === null) return null;
  try {
    return readManifest(json, wasm().layoutVersion());
  } catch (error) {
    await hub.confirm(MANIFEST);
    throw error;
  }
}

/**
 * The packed weights of a converted folder, given the option `dtype`. What is of no use may be a stale answer of the
 * cache.
 */
export async function chooseWeights(hub: Hub, manifest: Manifest, dtype: string): Promise<PublishedWeights> {
  const { layoutVersion: found, original, weights } = manifest;
  const isFormat = dtype === "auto" || dtype === manifest.dtype;
  if (weights && isFormat) return weights;
  await hub.confirm(MANIFEST);
  const own = wasm().layoutVersion();
  const why = weights
    ? `expected weights in ${dtype}, found them in ${manifest.dtype}`
    : `expected packed weights in layout ${own}, found layout ${found}`;
  if (original) {
    const message = `${MANIFEST}: ${why}, so the original was loaded: ${original.model}`;
    throw makeError("use_original", message, { model: original.model, revision: original.revision });
  }
  if (weights) {
    throw invalidOption("dtype", `"${manifest.dtype}", which this folder was converted to, or "auto"`, dtype);
  }
  const remedy =
    found < own
      ? "convert the model again with this version of gpt2-web (npx gpt2-web convert)"
      : "it was converted by a newer version of gpt2-web, which the page needs too";
  throw makeError("unsupported_model", `${MANIFEST}: ${why}; ${remedy}`, {
    file: MANIFEST,
    field: "layout_version",
    expected: String(own),
    found: String(found),
  });
}
