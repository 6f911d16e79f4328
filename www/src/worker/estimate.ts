/** What loading a model would take, from its small files and the sizes of its large ones. Runs in the worker. */

import type { WireLoadOptions, WireModel } from "../api/messages.js";
import type { Estimate } from "../api/types.js";
import { describeAdapter } from "../engine/adapter.js";
import { storageEstimate } from "../files/cache.js";
import { hashHere } from "../files/hash.js";
import { type FileSize, readText } from "../files/hub.js";
import type { PublishedWeights } from "../files/manifest.js";
import { openHub } from "../files/open-hub.js";
import type { Fetch } from "../files/request.js";
import { chooseWeights, findManifest } from "./converted.js";
import { tokenizerSizes, weightSizes } from "./inventory.js";
import { missing, noTokenizer, noWeights } from "./unusable.js";
import { buildFor, startWasm, wasm } from "./wasm.js";

/** Estimates a load. A model that cannot be loaded is no error here: `problems` says why. */
export async function estimate(
  source: WireModel,
  options: WireLoadOptions,
  fetch: Fetch,
  signal: AbortSignal,
): Promise<Estimate> {
  const problems: string[] = [];
  const hub = await openHub(source, {
    ...options,
    fetch,
    signal,
    isAnew: false,
    startHash: hashHere, // nothing is read that is large
    warn: (message) => problems.push(message),
    checking: () => undefined,
  });
  const adapter = options.device === "wasm" ? undefined : await describeAdapter();
  const started = startWasm(options.files, buildFor(options.device, adapter));
  await started;

  let plan = {
    device: "wasm" as Estimate["device"],
    dtype: "fp32",
    fallback_reason: null as string | null,
    device_bytes: 0,
    problem: null as string | null,
  };
  const files: FileSize[] = [];
  // Each part is looked at, also where an earlier one has a problem.
  const look = async (part: () => Promise<void>): Promise<void> => {
    try {
      await part();
    } catch (error) {
      signal.throwIfAborted();
      if ((error as { code?: string }).code === "use_original") throw error;
      problems.push((error as Error).message);
    }
  };
  let published: PublishedWeights | null = null;
  let { dtype } = options;
  await look(async () => {
    const manifest = await findManifest(hub, started);
    if (!manifest) return;
    published = await chooseWeights(hub, manifest, dtype);
    dtype = manifest.dtype;
  });
  await look(async () => {
    const config = await hub.open("config.json");
    if (!config) throw missing(hub, "config.json", "the model's configuration");
    const loader = new (wasm().Loader)(await readText(config));
    try {
      const described = adapter && JSON.stringify(adapter);
      plan = loader.expectedDevice(options.device, dtype, described) as typeof plan;
    } finally {
      loader.free();
    }
  });
  await look(async () => {
    const sizes = await tokenizerSizes(hub);
    files.push(...sizes.values());
    if (sizes.has("tokenizer.json") || sizes.has("vocab.txt")) return;
    if (!sizes.has("vocab.json")) throw await noTokenizer(hub);
    if (!sizes.has("merges.txt")) throw missing(hub, "merges.txt", "this file beside vocab.json, or tokenizer.json");
  });
  await look(async () => {
    const packed = await hub.packedSizes();
    const own = [wasm().packedName(plan.dtype, true), wasm().packedName(plan.dtype, false)];
    const kept = packed.find(({ name }) => own.includes(name));
    if (kept) return void files.push({ bytes: kept.bytes, cached: kept.bytes });
    if (published) {
      const { name, bytes } = published;
      return void files.push((await hub.size(name)) ?? { bytes, cached: 0 });
    }
    const sizes = await weightSizes(hub);
    files.push(...sizes.values());
    if (sizes.size === 0) throw await noWeights(hub, wasm().weightFiles());
    const unknown = [...sizes].filter(([, { bytes }]) => bytes === null).map(([name]) => name);
    if (unknown.length > 0) problems.push(`${unknown.join(", ")}: the server does not tell the size`);
  });

  const cachedBytes = files.reduce((sum, file) => sum + file.cached, 0);
  const downloadBytes = files.reduce((sum, file) => sum + Math.max(0, (file.bytes ?? 0) - file.cached), 0);
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
