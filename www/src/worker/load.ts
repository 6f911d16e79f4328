/** From a model's files to a model in memory. Runs in the worker. */

import type { Loader, Model } from "../../wasm/gpt2_web.js";
import { abortError, messageOf } from "../api/errors.js";
import type { WireInfo, WireLoadOptions, WireModel } from "../api/messages.js";
import type { ProgressEvent } from "../api/types.js";
import { describeAdapter } from "../engine/adapter.js";
import { askForFeatures, giveUpFeatures } from "../engine/gpu-features.js";
import { Kernels } from "../engine/kernels.js";
import { hashIn } from "../files/hash.js";
import type { Hub } from "../files/hub.js";
import type { PublishedWeights } from "../files/manifest.js";
import { openHub } from "../files/open-hub.js";
import { release } from "../files/release.js";
import type { Fetch } from "../files/request.js";
import { wait } from "../files/silence.js";
import { cacheKey } from "../files/source.js";
import { findTuning, keepTuning } from "../files/store.js";
import { packedParts } from "../files/weight-files.js";
import { Checkpoint, type Configs, type TokenizerParts } from "./checkpoint.js";
import { chooseWeights, findManifest } from "./converted.js";
import { inventory } from "./inventory.js";
import { Keeping } from "./keeping.js";
import { Preparation } from "./preparation.js";
import { Progress } from "./progress.js";
import { inTurn } from "./turn.js";
import { buildFor, freeAfterFailure, startWasm, wasm, wasmMemory } from "./wasm.js";
import { loadWeights } from "./weights.js";

/** A model that is ready. */
export interface Loaded {
  model: Model;
  info: WireInfo;
  /** What goes on when the model can write already. */
  keeping: Keeping;
  /** Bytes of WebAssembly memory. */
  bytesHeld(): number;
  /** Bytes of the keys and values of all texts, on the CPU: what several share counts once. */
  cacheBytes(): number | null;
}

/** What is to be loaded, and who is told. */
export interface LoadRequest {
  source: WireModel;
  options: WireLoadOptions;
  fetch: Fetch;
  signal: AbortSignal;
  emit: (event: ProgressEvent) => void;
  /** Whether to go on; asked also after loading, in the middle of whatever the model computes. */
  isWanted: () => boolean;
}

/** Loads a model. Of several tabs that load the same one, one downloads it and the others wait and use its cache. */
export async function load(request: LoadRequest): Promise<Loaded> {
  const { source, options, signal, emit } = request;
  let tell = (_: ProgressEvent) => {};
  const progress = new Progress(source.name, (event) => {
    emit(event);
    tell(event);
  });
  progress.start();
  const run = () => loadWhereItRuns(request, progress);
  if (source.kind !== "url" || !options.cache) return run();
  return new Promise((resolve, reject) => {
    const turn = inTurn(`gpt2-web ${cacheKey(source)}`, {
      signal,
      waiting: (other) => progress.waiting(other),
      run: async (told) => {
        tell = told;
        const loaded = await run();
        resolve(loaded);
        await loaded.keeping.done; // only then is everything in the cache that another tab would use
      },
    });
    turn.catch(reject);
  });
}

/** How often a load begins again because its files have become others on the server. */
const MAX_RESTARTS = 3;

/** What a load has found out that the next attempt has to know. */
interface Findings {
  /** Whether the files in the cache are of another version than those on the server. */
  isAnew: boolean;
  /** Whether the model's head is not its embedding, whatever its configuration says. */
  isUntied: boolean;
  warnings: Set<string>;
}

/** Loads a model on the device that is asked for, and for `auto` on the CPU if the GPU turns out to be of no use. */
async function loadWhereItRuns(request: LoadRequest, progress: Progress): Promise<Loaded> {
  const { source, options, fetch, signal } = request;
  const findings: Findings = { isAnew: false, isUntied: false, warnings: new Set() };
  const once = async (device: string) => {
    const hub = await openHub(source, {
      ...options,
      fetch,
      signal,
      isAnew: findings.isAnew,
      startHash: hashIn(options.files["hash-thread.js"]),
      warn: (message) => findings.warnings.add(message),
      checking: (file, nBytes, isDone) =>
        isDone ? progress.stepDone("verify", file) : progress.step("verify", file, nBytes),
    });
    try {
      return await loadAlone({ ...request, options: { ...options, device } }, hub, findings, progress);
    } catch (error) {
      const { code, file } = error as { code?: string; file?: string };
      if (code === "checkpoint" && file) await hub.drop(file);
      await hub.close();
      throw error;
    }
  };
  const on = async (device: string) => {
    for (let nRestarts = 0; ; ) {
      try {
        return await once(device);
      } catch (error) {
        const { code, changed } = error as { code?: string; changed?: boolean };
        if (code === "untied_head" && !findings.isUntied) {
          findings.isUntied = true; // what has been fetched is in the cache
        } else if (changed && nRestarts < MAX_RESTARTS) {
          nRestarts += 1;
          findings.isAnew = true;
          findings.warnings.add(`${messageOf(error)}, so the model was loaded anew`);
        } else {
          throw error;
        }
      }
    }
  };
  try {
    return await on(options.device);
  } catch (error) {
    // A GPU may fail its test while the weights arrive; what has arrived by then is in the cache.
    let reason = error;
    if (isGpuFailure(reason) && !isGpuFull(reason) && giveUpFeatures()) {
      wasm().destroyGpu();
      try {
        return await on(options.device);
      } catch (error) {
        reason = error;
      }
    }
    if (options.device !== "auto" || !isGpuFailure(reason)) throw reason;
    wasm().destroyGpu(); // what it holds is of no use, and the CPU may need that very memory
    const loaded = await on("wasm");
    loaded.info.fallback_reason = reason.message;
    return loaded;
  }
}

/**
 * Loads a model again whose GPU was lost: in the same format, on a GPU if there is one, else on the CPU. The caller
 * moves the texts to it.
 */
export async function reload(lost: Loaded, reason: Error, request: LoadRequest): Promise<Loaded> {
  const again = (device: string) =>
    load({ ...request, options: { ...request.options, device, dtype: lost.info.dtype }, emit: () => undefined });
  wasm().destroyGpu();
  const loaded = await again(request.options.device).catch((error: unknown) => {
    if (!isGpuFailure(error)) throw error;
    wasm().destroyGpu();
    return again("wasm");
  });
  const { device, fallback_reason } = loaded.info;
  const told = `the GPU was lost (${reason.message}); the model is loaded again, on ${device}`;
  loaded.info = {
    ...loaded.info,
    fallback_reason:
      device === "webgpu"
        ? null
        : `the GPU was lost (${reason.message})${fallback_reason === null ? "" : `; ${fallback_reason}`}`,
    warnings: [...new Set([...lost.info.warnings, ...loaded.info.warnings]), told],
  };
  return loaded;
}

/**
 * Codes of errors after which another device is tried: first the GPU without the features that not every GPU has, then,
 * for `auto`, the CPU. A GPU without room for the model is another reason for the CPU.
 */
const GPU_FAILURES: ReadonlySet<unknown> = new Set(["webgpu_not_available", "device_lost", "invalid_logits"]);

function isGpuFailure(error: unknown): error is Error {
  return error instanceof Error && (isGpuFull(error) || ("code" in error && GPU_FAILURES.has(error.code)));
}

/** Whether it is the GPU, and not the CPU, that has too little memory. */
function isGpuFull(error: Error): boolean {
  const { code, device } = error as { code?: string; device?: string };
  return code === "out_of_memory" && device === "webgpu";
}

/** How long the sizes of the files may take; then they are read without it being known how large all of them are. */
const MAX_INVENTORY_MS = 5000;

const FORMATS = ["fp32", "fp16", "q8", "q4"];

/** What a plan needs to know. */
interface Plan {
  hub: Hub;
  progress: Progress;
  signal: AbortSignal;
  published: PublishedWeights | null;
}

/** Tells the progress which files will be read, out of those that a visit with packed weights of this name reads. */
async function planFiles({ hub, progress, signal, published }: Plan, isWanted: (packed: string) => boolean) {
  if (published) {
    // Its size is known, and those of the small files would only be waited for.
    const files = new Map<string, number | null>([[published.name, published.bytes]]);
    progress.plan(files);
    return files;
  }
  const planned = inventory(hub, isWanted).then(
    (files) => {
      progress.plan(files);
      return files;
    },
    () => new Map<string, number | null>(), // the files themselves tell what is wrong
  );
  const late = wait(MAX_INVENTORY_MS, signal).catch(() => undefined);
  return Promise.race([planned, late]);
}

async function loadAlone(request: LoadRequest, hub: Hub, findings: Findings, progress: Progress): Promise<Loaded> {
  const { options, signal, isWanted } = request;
  const { warnings } = findings;
  const checkAbort = () => {
    if (signal.aborted) throw abortError();
  };
  progress.phase("compile");
  const described = options.device === "wasm" ? Promise.resolve(undefined) : describeAdapter();
  const started = described.then((adapter) => startWasm(options.files, buildFor(options.device, adapter)));
  const modules = Promise.all([Kernels.start(options.files, signal, isWanted), started]);
  // The small files are read meanwhile; an error in them is thrown below, where they are used.
  const checkpoint = new Checkpoint(hub, progress);
  const chosen = findManifest(hub, started).then(async (manifest) => {
    const published = manifest && (await chooseWeights(hub, manifest, options.dtype));
    return { published, dtype: manifest?.dtype ?? options.dtype };
  });
  const planned = chosen.then(({ published, dtype }) => {
    const isFormatWanted = (packed: string) => dtype === "auto" || packedParts(packed)?.dtype === dtype;
    return planFiles({ hub, progress, signal, published }, isFormatWanted);
  });
  const configs = planned.then(() => checkpoint.readConfigs());
  const tokenizer = configs.then(() => checkpoint.readTokenizer());
  await Promise.allSettled([modules, tokenizer]);
  const [kernels] = await modules;
  const adapter = await described;
  const { published, dtype: wanted } = await chosen;
  checkAbort();

  const loader = await makeLoader(options, await configs, await tokenizer);
  let packed: { name: string; bytes: number; files: string[]; warnings: string[] };
  let gpu: Preparation | undefined;
  try {
    checkAbort();
    progress.phase("self-test");
    if (adapter !== undefined) askForFeatures();
    // An earlier visit may have found that the model's head is not its embedding.
    const untied = new Set(FORMATS.map((format) => wasm().packedName(format, true)));
    const found = [...(await hub.packedSizes()), ...(published ? [published] : [])];
    findings.isUntied ||= found.some(({ name }) => untied.has(name));
    if (findings.isUntied) loader.untie();
    if (options.device !== "webgpu") {
      const { device_bytes } = loader.expectedDevice("wasm", wanted) as { device_bytes: number };
      await kernels.makeRoom(device_bytes, signal);
    }
    const dtype = await loader.openDevice(options.device, wanted, adapter && JSON.stringify(adapter), kernels);
    const name = wasm().packedName(dtype, findings.isUntied);
    checkAbort();
    const isElsewhere = [...((await planned)?.keys() ?? [])].some((file) => packedParts(file) && file !== name);
    if (isElsewhere) await planFiles({ hub, progress, signal, published }, (packed) => packed === name);
    const tuningKey = options.cache ? loader.tuningKey() : undefined;
    const compiling = loader.compiling(tuningKey && (await findTuning(tuningKey).catch(() => undefined)));
    if (compiling) gpu = new Preparation(compiling, progress, checkAbort);
    const { files, warnings: told } = await loadWeights({
      checkpoint,
      loader,
      packedName: name,
      published,
      writePacked: loader.device === "wasm" ? kernels.write.bind(kernels) : loader.writePacked.bind(loader),
      progress,
      check: () => gpu?.check(),
    });
    const tuning = await gpu?.done();
    if (tuningKey && tuning) {
      const warn = (error: Error) => warnings.add(`the GPU's tuning was not kept: ${error.message}`);
      await keepTuning(tuningKey, tuning).catch(warn);
    }
    checkAbort();
    for (const warning of [...told, ...loader.warnings()]) warnings.add(warning);
    packed = { name, bytes: loader.packedBytes(), files, warnings: told };
  } catch (error) {
    gpu?.stop();
    freeAfterFailure(loader);
    throw error;
  }
  const isUploaded = loader.device === "webgpu";
  if (isUploaded) progress.step("upload", "", 0);
  const model = await loader.finish(); // takes the loader
  if (isUploaded) progress.stepDone("upload", "");
  for (const warning of model.warnings()) warnings.add(warning);
  try {
    checkAbort();
    await hub.complete();
    if (!isUploaded) kernels.chooseProducts();
    const refused = await kernels.useThreads(options.threads);
    if (refused !== null) warnings.add(refused);
  } catch (error) {
    freeAfterFailure(model);
    throw error;
  }
  const info = model.info() as Omit<WireInfo, "warnings">;
  progress.finish();
  const told = new Set(warnings);
  const takeWarnings = () => [...warnings].filter((warning) => !told.has(warning));
  return {
    model,
    info: { ...info, warnings: [...told] },
    keeping: new Keeping({ ...packed, hub, model, progress, takeWarnings }),
    bytesHeld: () => wasmMemory().buffer.byteLength + kernels.memory.buffer.byteLength,
    cacheBytes: () => (isUploaded ? null : kernels.cachesBytes()),
  };
}

/** A loader with the model's tokenizer: of the full build if the small one does not know that kind. */
async function makeLoader(options: WireLoadOptions, configs: Configs, files: TokenizerParts): Promise<Loader> {
  const make = () => {
    const loader = new (wasm().Loader)(...configs);
    try {
      for (const [name, bytes] of files) loader.tokenizerFile(name, bytes);
      loader.buildTokenizer();
      return loader;
    } catch (error) {
      freeAfterFailure(loader);
      throw error;
    }
  };
  let loader: Loader;
  try {
    loader = make();
  } catch (error) {
    if ((error as { code?: unknown }).code !== "not_in_this_build") throw error;
    await startWasm(options.files, "full");
    loader = make();
  }
  for (const [, bytes] of files) release(bytes);
  return loader;
}
