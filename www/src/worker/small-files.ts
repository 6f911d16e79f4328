/** The files of a loaded model besides its weights, for a checkpoint that is made from it. Runs in the worker. */

import { hashHere } from "../files/hash.js";
import { openHub } from "../files/open-hub.js";
import { Checkpoint } from "./checkpoint.js";
import type { LoadRequest } from "./load.js";
import { Progress } from "./progress.js";

/** Reads them again: from the cache, where the model is there, or where it came from. */
export async function readSmallFiles(
  { source, options, fetch }: Pick<LoadRequest, "source" | "options" | "fetch">,
  signal: AbortSignal,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const hub = await openHub(source, {
    ...options,
    fetch,
    signal,
    isAnew: false,
    startHash: hashHere,
    warn: () => undefined,
    checking: () => undefined,
  });
  try {
    const checkpoint = new Checkpoint(hub, new Progress(source.name, () => undefined));
    const [config, generation] = await checkpoint.readConfigs();
    const bytes = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
    const files = new Map([["config.json", bytes(config)]]);
    if (generation !== undefined) files.set("generation_config.json", bytes(generation));
    for (const [name, content] of await checkpoint.readTokenizer()) {
      files.set(name, content as Uint8Array<ArrayBuffer>);
    }
    return files;
  } finally {
    await hub.close();
  }
}
