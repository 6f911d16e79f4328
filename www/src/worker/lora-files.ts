/** The files of a LoRA adapter, from wherever they are. Runs in the worker. */

import type { WireModel } from "../api/messages.js";
import { hashHere } from "../files/hash.js";
import { readBytes, readText } from "../files/hub.js";
import { openHub } from "../files/open-hub.js";
import type { HttpOptions } from "../files/request.js";
import { missing } from "./unusable.js";

const CONFIG_FILE = "adapter_config.json";
const WEIGHTS_FILE = "adapter_model.safetensors";
/** The form that PEFT wrote before safetensors. */
const OLD_WEIGHTS_FILE = "adapter_model.bin";

/** More than the largest one takes: rank 256 on every matrix of GPT-2 XL, in F32. */
const MAX_WEIGHTS_BYTES = 1.5 * 2 ** 30;

/** What the files say. */
export interface AdapterFiles {
  config: string;
  weights: Uint8Array;
}

/** Reads both files, through the cache if there is to be one. */
export async function readAdapter(source: WireModel, options: HttpOptions & { cache: boolean }): Promise<AdapterFiles> {
  const hub = await openHub(source, {
    ...options,
    isAnew: false,
    startHash: hashHere,
    warn: () => undefined, // an adapter that cannot be kept is loaded all the same
    checking: () => undefined,
  });
  try {
    const config = await hub.open(CONFIG_FILE);
    if (!config) throw missing(hub, CONFIG_FILE, "the configuration of a LoRA adapter, as PEFT saves it");
    const text = await readText(config);
    const file = await hub.open(WEIGHTS_FILE);
    if (!file) {
      const isOld = (await hub.size(OLD_WEIGHTS_FILE, 1).catch(() => null)) !== null;
      const found = isOld ? `no such file, but ${OLD_WEIGHTS_FILE}; a newer PEFT saves it as safetensors` : undefined;
      throw missing(hub, WEIGHTS_FILE, "the weights of a LoRA adapter, as PEFT saves them", found);
    }
    const weights = await readBytes(file, MAX_WEIGHTS_BYTES);
    await hub.complete();
    return { config: text, weights };
  } finally {
    await hub.close();
  }
}
