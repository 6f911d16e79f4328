/** What loading a model would take, from its small files and the sizes of its large ones. Runs in the worker. */

import { Loader, packedName, shardNames } from "../../wasm/gpt2_web.js";
import type { WireLoadOptions, WireModel } from "../api/messages.js";
import type { Estimate } from "../api/types.js";
import { describeAdapter } from "../engine/adapter.js";
import { storageEstimate } from "../files/cache.js";
import type { Fetch } from "../files/http.js";
import { readText } from "../files/hub.js";
import { openHub } from "../files/open-hub.js";
import { missing } from "./checkpoint.js";
import { startWasm } from "./wasm.js";

interface Sizes {
  bytes: number;
  cached: number;
}

/** Estimates a load. A model that cannot be loaded is no error here: `problems` says why. */
export async function estimate(
  source: WireModel,
  options: WireLoadOptions,
  fetch: Fetch,
  signal: AbortSignal,
): Promise<Estimate> {
  const problems: string[] = [];
  const hub = openHub(source, { ...options, fetch, signal, warn: (message) => problems.push(message) });
  await startWasm(options.files["gpt2_web_bg.wasm"]);

  let plan = {
    device: "wasm" as Estimate["device"],
    dtype: "fp32",
    fallback_reason: null as string | null,
    device_bytes: 0,
    problem: null as string | null,
  };
  const files: Sizes[] = [];
  const need = async (file: string, expected: string): Promise<void> => {
    const size = await hub.size(file);
    if (size) files.push(size);
    else throw missing(file, expected);
  };
  // Each part is looked at, also where an earlier one has a problem.
  const look = async (part: () => Promise<void>): Promise<void> => {
    try {
      await part();
    } catch (error) {
      signal.throwIfAborted();
      problems.push((error as Error).message);
    }
  };
  await look(async () => {
    const config = await hub.open("config.json");
    if (!config) throw missing("config.json", "the model's configuration");
    const loader = new Loader(await readText(config));
    try {
      const adapter = options.device === "wasm" ? undefined : await describeAdapter();
      plan = loader.expectedDevice(options.device, options.dtype, adapter) as typeof plan;
    } finally {
      loader.free();
    }
  });
  await look(async () => {
    const tokenizer = await hub.size("tokenizer.json");
    if (tokenizer) return void files.push(tokenizer);
    await need("vocab.json", "tokenizer.json, or vocab.json and merges.txt");
    await need("merges.txt", "this file beside vocab.json");
  });
  await look(async () => {
    const packed = await hub.openPacked(packedName(plan.dtype));
    if (packed?.bytes != null) return void files.push({ bytes: packed.bytes, cached: packed.bytes });
    const single = await hub.size("model.safetensors");
    if (single) return void files.push(single);
    const index = await hub.open("model.safetensors.index.json");
    if (!index) throw missing("model.safetensors", "this file, or model.safetensors.index.json and its shards");
    for (const shard of shardNames(await readText(index))) await need(shard, "the shard that the index names");
  });

  const cachedBytes = files.reduce((sum, file) => sum + file.cached, 0);
  const downloadBytes = files.reduce((sum, file) => sum + Math.max(0, file.bytes - file.cached), 0);
  const { usage, quota } = await storageEstimate();
  const free = Math.max(0, quota - usage);
  if (options.cache && quota > 0 && downloadBytes > free) {
    problems.push(`storage: the download takes ${downloadBytes} bytes and ${free} are free, so it will not be kept`);
  }
  const { fallback_reason, problem, ...device } = plan;
  if (problem !== null) problems.push(problem);
  if (fallback_reason !== null && options.device !== "wasm") problems.push(`no GPU: ${fallback_reason}`);
  return { download_bytes: downloadBytes, cached_bytes: cachedBytes, storage: { usage, quota }, ...device, problems };
}
