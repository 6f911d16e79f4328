/** From a checkpoint to a folder of packed weights. */

import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as full from "../../wasm/gpt2_web_full.js";
import { abortError, invalidOption, isAbort, makeError } from "../api/errors.js";
import type { ProgressEvent } from "../api/types.js";
import { shownUrl } from "../files/address.js";
import { type Hub, readBytes } from "../files/hub.js";
import { MANIFEST, MANIFEST_FORMAT, type ManifestJson } from "../files/manifest.js";
import { resolve } from "../files/source.js";
import { Checkpoint } from "../worker/checkpoint.js";
import { inventory } from "../worker/inventory.js";
import { Progress } from "../worker/progress.js";
import { adoptWasm } from "../worker/wasm.js";
import { loadCheckpoint } from "../worker/weights.js";
import { DownloadHub, FolderHub } from "./hubs.js";
import { Output } from "./output.js";
import { digestsOf, PackedFile } from "./packed-file.js";

/** What is converted, and to what. */
export interface Conversion {
  /** A Hugging Face id, a URL, a folder on disk, or `"demo"`. */
  model: string;
  out: string;
  dtype: string;
  revision: string | undefined;
  remoteHost: string | undefined;
  /** Where pages find the original; `null`: nowhere. */
  original: string | null | undefined;
  signal: AbortSignal;
  emit: (event: ProgressEvent) => void;
}

/** A conversion that is whole. */
export interface Converted {
  folder: string;
  files: string[];
  bytes: number;
  warnings: string[];
  hasLicence: boolean;
}

const DTYPES = ["fp32", "fp16", "q8", "q4"];

/** Bytes of which each has its own SHA-256: a browser keeps parts of a download in chunks of the same size. */
const PIECE_BYTES = 4 << 20;

/** Files that go along with a model if it has them. */
const LICENCES = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "NOTICE"];
const CARDS = ["README.md", "MODEL_CARD.md"];

/** Where a model is: a folder on disk, or an address. */
interface Place {
  folder: string | null;
  base: string;
  /** What pages may call it. */
  name: string | null;
  revision: string;
}

function placeOf({ model, revision, remoteHost }: Conversion): Place {
  if (model === "demo") return onDisk(fileURLToPath(new URL("./demo", import.meta.url)), revision);
  const isFolder = statSync(model, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isFolder) return onDisk(path.resolve(model), revision);
  if (/^(\.{0,2}[/\\]|[a-z]:\\)/i.test(model)) throw invalidOption("model", "a folder that is there", model);
  const options = {
    ...(revision === undefined ? {} : { revision }),
    ...(remoteHost === undefined ? {} : { remote_host: remoteHost }),
  };
  const source = resolve(model, options);
  if (source.kind !== "url") throw invalidOption("model", "a model with an address", model);
  if (!/^https?:/.test(source.base)) throw invalidOption("model", "an address of http or https", model);
  const isUrl = source.name === shownUrl(source.base) || /^https?:\/\//i.test(model);
  return {
    folder: null,
    base: source.base,
    name: isUrl && source.name.includes("://") ? shownUrl(source.base) : source.name,
    revision: source.revision,
  };
}

function onDisk(folder: string, revision: string | undefined): Place {
  if (revision !== undefined) throw invalidOption("--revision", "none for a folder on disk", revision);
  return { folder, base: folder, name: null, revision: "" };
}

/** Converts a model. What arrives is kept, so that a conversion that ends early goes on when it is begun again. */
export async function convert(conversion: Conversion): Promise<Converted> {
  const { dtype, signal, emit, out } = conversion;
  if (!DTYPES.includes(dtype)) throw invalidOption("--dtype", DTYPES.join(", "), dtype);
  const place = placeOf(conversion);
  const bytes = readFileSync(new URL("./gpt2_web_full_bg.wasm", import.meta.url));
  adoptWasm(full, (await full.default({ module_or_path: bytes })).memory);
  const { base, revision } = place;
  const output = new Output(out, {
    ...{ model: conversion.model, dtype, revision, base: shownBase(place) },
    layout: String(full.layoutVersion()),
  });
  const options = { fetch: (url: string, init: RequestInit) => fetch(url, init), verify: true, signal };
  const hub = place.folder === null ? new DownloadHub(base, output.partial, options) : new FolderHub(base, signal);
  if (await hub.size(MANIFEST, 1)) {
    throw invalidOption("model", "a checkpoint as it was published", `a folder that was converted (${MANIFEST})`);
  }
  const progress = new Progress(conversion.model, emit);
  progress.plan(await inventory(hub, () => false));
  const checkpoint = new Checkpoint(hub, progress);
  const { small, config, loader } = await readSmallFiles(checkpoint);
  try {
    const packed = path.join(output.partial, "packed");
    const request = { checkpoint, config, dtype, progress, signal };
    const { isUntied, warnings } = await packAsItIs(request, packed);
    if (isUntied) loader.untie();
    const { hasLicence } = await addPapers(hub, small);
    const bytes = statSync(packed).size;
    const { sha256, pieces } = await digestsOf(packed, PIECE_BYTES);
    if (signal.aborted) throw abortError();
    const manifest: ManifestJson = {
      format: MANIFEST_FORMAT,
      layout_version: full.layoutVersion(),
      dtype,
      file: full.packedName(dtype, isUntied),
      bytes,
      sha256,
      piece_bytes: PIECE_BYTES,
      piece_sha256: pieces,
      warnings: [...new Set([...loader.warnings(), ...warnings])],
      ...originalOf(conversion, place),
    };
    output.finish(packed, small, manifest);
    const files = [...small.keys(), manifest.file, MANIFEST].sort();
    const sizes = files.map((file) => statSync(path.join(output.folder, file)).size);
    const sum = sizes.reduce((sum, size) => sum + size, 0);
    return { folder: output.folder, files, bytes: sum, warnings: manifest.warnings, hasLicence };
  } finally {
    loader.free();
  }
}

/** Where the model is, without what signs its address. */
function shownBase({ folder, base }: Place): string {
  return folder ?? shownUrl(base);
}

function originalOf({ original, revision }: Conversion, place: Place): Pick<ManifestJson, "original"> {
  const model = original === undefined ? place.name : original;
  if (model === null) return {};
  return { original: { model, ...(revision === undefined ? {} : { revision }) } };
}

/** Reads and checks everything but the weights. */
async function readSmallFiles(checkpoint: Checkpoint) {
  const small = new Map<string, Uint8Array>();
  const [config, generation] = await checkpoint.readConfigs();
  const encoder = new TextEncoder();
  small.set("config.json", encoder.encode(config));
  if (generation !== undefined) small.set("generation_config.json", encoder.encode(generation));
  const loader = new full.Loader(config, generation);
  for (const [name, bytes] of await checkpoint.readTokenizer()) {
    small.set(name, bytes);
    loader.tokenizerFile(name, bytes);
  }
  loader.buildTokenizer();
  return { small, config, loader };
}

/** Adds the licence and the model card to the small files, as far as there are any. */
async function addPapers(hub: Hub, small: Map<string, Uint8Array>): Promise<{ hasLicence: boolean }> {
  for (const name of [...LICENCES, ...CARDS]) {
    const file = await hub.open(name);
    if (file) small.set(name, await readBytes(file));
  }
  return { hasLicence: LICENCES.some((name) => small.has(name)) };
}

interface Packing {
  checkpoint: Checkpoint;
  config: string;
  dtype: string;
  progress: Progress;
  signal: AbortSignal;
}

/** Packs a checkpoint; one whose head is not its embedding, though its configuration says so, is packed as it is. */
async function packAsItIs(packing: Packing, to: string): Promise<{ isUntied: boolean; warnings: string[] }> {
  try {
    return { isUntied: false, warnings: await pack(packing, false, to) };
  } catch (error) {
    if (isAbort(error) || (error as { code?: string }).code !== "untied_head") throw error;
    return { isUntied: true, warnings: await pack(packing, true, to) };
  }
}

async function pack(packing: Packing, isUntied: boolean, to: string): Promise<string[]> {
  const { checkpoint, config, dtype, progress, signal } = packing;
  const file = new PackedFile(to);
  try {
    const packer = new full.Packer(config, dtype, isUntied, file);
    file.resize(packer.nBytes);
    const check = () => {
      if (signal.aborted) throw abortError();
    };
    await loadCheckpoint({ checkpoint, loader: packer, progress, check });
    return packer.finish();
  } catch (error) {
    // A failure of the disk comes through the packer, which is of no use after it.
    const { code } = error as { code?: string };
    if (code === "ENOSPC") throw makeError("quota", `${to}: expected room for the packed weights, found a full disk`);
    throw error;
  } finally {
    file.close();
  }
}
