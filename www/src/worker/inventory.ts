/** Which files a load will read and how large they are, asked before any of them is read. */

import { type FileSize, type Hub, readText } from "../files/hub.js";
import { wasm } from "./wasm.js";

/** Files whose sizes are asked at once: a browser allows six connections to a host. */
const MAX_AT_ONCE = 4;

/** Files that belong to a tokenizer besides its vocabulary. */
const BESIDE_TOKENIZER: ReadonlySet<string> = new Set([
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
]);

/** The names of a tokenizer's files that are still asked for, once it is known whether there is a `tokenizer.json`. */
export function tokenizerNames(hasTokenizerJson: boolean): string[] {
  return wasm()
    .tokenizerFiles()
    .filter((name) => !hasTokenizerJson || BESIDE_TOKENIZER.has(name));
}

/** Whether a file only lists others. */
export const isIndex = (name: string) => name.endsWith(".index.json");

/** The sizes of those files of a list that are there, by name, each asked for so many times at most. */
export async function sizesOf(hub: Hub, names: string[], maxAttempts?: number): Promise<Map<string, FileSize>> {
  const found = new Map<string, FileSize>();
  const left = [...names];
  const askOneByOne = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      const size = await hub.size(name, maxAttempts);
      if (size) found.set(name, size);
    }
  };
  await Promise.all(Array.from({ length: MAX_AT_ONCE }, askOneByOne));
  return found;
}

/** The tokenizer's files that are there. */
export async function tokenizerSizes(hub: Hub, maxAttempts?: number): Promise<Map<string, FileSize>> {
  const beside = await sizesOf(hub, tokenizerNames(true), maxAttempts);
  if (beside.has("tokenizer.json")) return beside;
  const others = wasm()
    .tokenizerFiles()
    .filter((name) => !BESIDE_TOKENIZER.has(name));
  return new Map([...beside, ...(await sizesOf(hub, others, maxAttempts))]);
}

/** The first weights that are there, in the order in which they are looked for; none if there are none. */
export async function weightSizes(hub: Hub, maxAttempts?: number): Promise<Map<string, FileSize>> {
  for (const name of wasm().weightFiles()) {
    const size = await hub.size(name, maxAttempts);
    if (!size) continue;
    if (!isIndex(name)) return new Map([[name, size]]);
    const index = await hub.open(name);
    if (!index) continue;
    const shards = wasm().shardNames(name, await readText(index));
    const sizes = await sizesOf(hub, shards, maxAttempts);
    // A shard that is not there is told when its turn comes.
    return new Map([[name, size], ...shards.map((s) => [s, sizes.get(s) ?? { bytes: null, cached: 0 }] as const)]);
  }
  return new Map();
}

/**
 * Everything that a load will read. `isWanted` says which packed weights the load would take, which are then read in
 * place of the checkpoint's own. Each size is asked for once only, so a server that is busy gives none.
 */
export async function inventory(hub: Hub, isWanted: (packed: string) => boolean): Promise<Map<string, number | null>> {
  const weights = async () => {
    const packed = (await hub.packedSizes()).find(({ name }) => isWanted(name));
    return packed ? new Map([[packed.name, { bytes: packed.bytes, cached: packed.bytes }]]) : weightSizes(hub, 1);
  };
  const parts = await Promise.all([
    sizesOf(hub, ["config.json", "generation_config.json"], 1),
    tokenizerSizes(hub, 1),
    weights(),
  ]);
  return new Map(parts.flatMap((sizes) => [...sizes].map(([name, { bytes }]) => [name, bytes] as const)));
}
