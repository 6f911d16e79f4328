/** From a model's files to a model in memory. Runs in the worker. */

import { destroyGpu, Loader, type Model, packedName } from "../../wasm/gpt2_web.js";
import { abortError } from "../api/errors.js";
import type { WireInfo, WireLoadOptions, WireModel } from "../api/messages.js";
import type { ProgressEvent } from "../api/types.js";
import { describeAdapter } from "../engine/adapter.js";
import { askForFeatures, giveUpFeatures } from "../engine/gpu-features.js";
import { Kernels } from "../engine/kernels.js";
import type { Fetch } from "../files/http.js";
import type { Hub } from "../files/hub.js";
import { openHub } from "../files/open-hub.js";
import { release } from "../files/release.js";
import { cacheKey } from "../files/source.js";
import { findTuning, keepTuning } from "../files/store.js";
import { Checkpoint, type TokenizerFiles } from "./checkpoint.js";
import { Preparation } from "./preparation.js";
import { Progress } from "./progress.js";
import { startWasm } from "./wasm.js";
import { loadWeights, packedPieces } from "./weights.js";

/** A model that is ready. */
export interface Loaded {
  model: Model;
  info: WireInfo;
  /** Bytes of WebAssembly memory. */
  bytesHeld(): number;
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
  const { source, options, fetch, signal, emit } = request;
  const progress = new Progress(source.name, emit);
  progress.start();
  const on = async (device: string) => {
    const warnings: string[] = [];
    const hub = openHub(source, { ...options, fetch, signal, warn: (message) => warnings.push(message) });
    try {
      return await loadAlone({ ...request, options: { ...options, device } }, hub, warnings, progress);
    } catch (error) {
      const { code, file } = error as { code?: string; file?: string };
      if (code === "checkpoint" && file) await hub.drop(file);
      throw error;
    } finally {
      await hub.close();
    }
  };
  const run = async () => {
    try {
      return await on(options.device);
    } catch (error) {
      // A GPU may fail its test while the weights arrive; what has arrived by then is in the cache.
      let reason = error;
      if (isGpuFailure(reason) && !isGpuFull(reason) && giveUpFeatures()) {
        destroyGpu();
        try {
          return await on(options.device);
        } catch (error) {
          reason = error;
        }
      }
      if (options.device !== "auto" || !isGpuFailure(reason)) throw reason;
      destroyGpu(); // what it holds is of no use, and the CPU may need that very memory
      const loaded = await on("wasm");
      loaded.info.fallback_reason = reason.message;
      return loaded;
    }
  };
  // Pages that are not served securely have no locks, and opaque origins may not ask for one. There, the store notices
  // a second writer.
  const hasLocks = await navigator.locks?.query().then(
    () => true,
    () => false,
  );
  if (source.kind !== "url" || !options.cache || !hasLocks) return run();
  return navigator.locks.request(`gpt2-web ${cacheKey(source)}`, { signal }, run);
}

/**
 * Loads a model again whose GPU was lost: in the same format, on a GPU if there is one, else on the CPU. The caller
 * moves the texts to it.
 */
export async function reload(lost: Loaded, reason: Error, request: LoadRequest): Promise<Loaded> {
  const again = (device: string) =>
    load({ ...request, options: { ...request.options, device, dtype: lost.info.dtype }, emit: () => undefined });
  destroyGpu();
  const loaded = await again(request.options.device).catch((error: unknown) => {
    if (!isGpuFailure(error)) throw error;
    destroyGpu();
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

async function loadAlone(request: LoadRequest, hub: Hub, warnings: string[], progress: Progress): Promise<Loaded> {
  const { options, signal, isWanted } = request;
  const checkAbort = () => {
    if (signal.aborted) throw abortError();
  };
  progress.phase("compile");
  const modules = Promise.all([
    startWasm(options.files["gpt2_web_bg.wasm"]),
    Kernels.start(options.files, signal, isWanted),
  ]);
  // The small files are read meanwhile; an error in them is thrown below, where they are used.
  const checkpoint = new Checkpoint(hub, progress);
  const configs = checkpoint.readConfigs();
  const tokenizer = configs.then(() => checkpoint.readTokenizer());
  await Promise.allSettled([modules, tokenizer]);
  const [{ memory }, kernels] = await modules;
  checkAbort();

  const loader = new Loader(...(await configs));
  /** Keeps the packed weights for the next visit, when all of them have been checked. */
  let keep = async (_: Model) => {};
  let gpu: Preparation | undefined;
  try {
    loadTokenizer(loader, await tokenizer);
    checkAbort();
    progress.phase("self-test");
    const adapter = options.device === "wasm" ? undefined : await describeAdapter();
    if (adapter !== undefined) askForFeatures();
    if (options.device !== "webgpu") {
      const { device_bytes } = loader.expectedDevice("wasm", options.dtype) as { device_bytes: number };
      await kernels.makeRoom(device_bytes, signal);
    }
    const name = packedName(await loader.openDevice(options.device, options.dtype, adapter, kernels));
    checkAbort();
    const tuningKey = options.cache ? loader.tuningKey() : undefined;
    const compiling = loader.compiling(tuningKey && (await findTuning(tuningKey).catch(() => undefined)));
    if (compiling) gpu = new Preparation(compiling, progress, checkAbort);
    const files = await loadWeights({
      checkpoint,
      loader,
      packedName: name,
      writePacked: loader.device === "wasm" ? kernels.write.bind(kernels) : loader.writePacked.bind(loader),
      progress,
      check: () => gpu?.check(),
    });
    const tuning = await gpu?.done();
    if (tuningKey && tuning) {
      const warn = (error: Error) => warnings.push(`the GPU's tuning was not kept: ${error.message}`);
      await keepTuning(tuningKey, tuning).catch(warn);
    }
    checkAbort();
    const nBytes = loader.packedBytes();
    if (files.length > 0) keep = (model) => hub.keepPacked(name, nBytes, packedPieces(model, nBytes), files);
  } catch (error) {
    gpu?.stop();
    loader.free();
    throw error;
  }
  const model = await loader.finish(); // takes the loader
  try {
    await keep(model);
    checkAbort();
    await hub.complete();
    const refused = await kernels.useThreads(options.threads);
    if (refused !== null) warnings.push(refused);
  } catch (error) {
    model.free();
    throw error;
  }
  const info = model.info() as Omit<WireInfo, "warnings">;
  progress.finish();
  return {
    model,
    info: { ...info, warnings },
    bytesHeld: () => memory.buffer.byteLength + kernels.memory.buffer.byteLength,
  };
}

function loadTokenizer(loader: Loader, files: TokenizerFiles): void {
  if (files instanceof Uint8Array) {
    loader.tokenizerJson(files);
    release(files);
  } else {
    loader.vocabAndMerges(...files);
  }
}
