/** What was learnt: an adapter, or a model. */

import { invalidOption, makeError } from "../api/errors.js";
import type { Generator } from "../api/generator.js";
import { Learner } from "./learner.js";
import type { LearnedFiles, PackedDtype } from "./messages.js";

/** What a WebAssembly memory holds at most. */
export const MAX_MEMORY_BYTES = 2 ** 32;

/** PEFT's names of its two files. */
const [CONFIG_FILE, WEIGHTS_FILE] = ["adapter_config.json", "adapter_model.safetensors"];

/** Files that can be saved, or given to `generator.loadAdapter`. */
export function blobsOf(files: LearnedFiles): Record<string, Blob> {
  return Object.fromEntries([...files].map(([name, bytes]) => [name, new Blob([bytes])]));
}

/** A name that no loaded adapter has: this one, or with a number behind it. */
export async function freeName(generator: Generator, name: string): Promise<string> {
  const taken = new Set((await generator.listAdapters()).map((adapter) => adapter.name));
  let free = name;
  for (let i = 2; taken.has(free); i++) free = `${name}-${i}`;
  return free;
}

/** A LoRA adapter that was learnt and is loaded in its generator, where nothing uses it before it is chosen. */
export class LearnedAdapter {
  /** What it is called in the generator. */
  readonly name: string;
  /** The step after which it was as it is. */
  readonly step: number;
  /** Its loss on what was kept back, nats per token; `null` where nothing was, or it was not measured. */
  readonly eval_loss: number | null;
  #generator: Generator;
  #files: LearnedFiles;

  /** @internal */
  constructor(
    generator: Generator,
    name: string,
    kept: { files: LearnedFiles; step: number; eval_loss: number | null },
  ) {
    [this.name, this.step, this.eval_loss] = [name, kept.step, kept.eval_loss];
    [this.#generator, this.#files] = [generator, kept.files];
  }

  /**
   * Its files, as PEFT saves and loads them (`PeftModel.from_pretrained`): `adapter_config.json` and
   * `adapter_model.safetensors`. `generator.loadAdapter` takes them as `{ files }`.
   */
  async save(): Promise<Record<string, Blob>> {
    return blobsOf(this.#files);
  }

  /**
   * A checkpoint of the generator's model with the adapter added to its weights, which are those of the generator's
   * format: `config.json`, `model.safetensors` in F32 and the tokenizer's files. With a `dtype` other than `"fp32"`
   * the weights are packed in it, as `gpt2-web convert` packs them.
   *
   * @throws `Gpt2Error` with the code `out_of_memory` if the model is too large for that.
   */
  async merge(options: MergeOptions = {}): Promise<Record<string, Blob>> {
    const dtype = packedDtypeOf(options);
    const { client } = this.#generator.contact;
    const [weights, small] = await Promise.all([
      client.ask("weights", {}).answer,
      client.ask("small-files", {}).answer,
    ]);
    // the weights as numbers, as the tensors' bytes, as the file's, and packed again
    const memoryBytes = 12 * this.#generator.info.parameters + 2 * weights.bytes;
    checkMemory("merging", memoryBytes);
    const learner = new Learner(this.#generator);
    try {
      await learner.takeWeights(weights, memoryBytes);
      const [config, numbers] = [this.#files.get(CONFIG_FILE), this.#files.get(WEIGHTS_FILE)];
      if (!config || !numbers) throw new Error("an adapter without its files");
      const adapter = { config: new TextDecoder().decode(config), weights: numbers };
      learner.post({ kind: "merge", adapter, dtype });
      return { ...blobsOf(small), ...blobsOf(await mergedOf(learner)) };
    } finally {
      learner.stop();
    }
  }
}

/** A model that was learnt whole. */
export class LearnedModel {
  /** The step after which it was as it is. */
  readonly step: number;
  /** Its loss on what was kept back, nats per token; `null` where nothing was, or it was not measured. */
  readonly eval_loss: number | null;
  #generator: Generator;
  #files: LearnedFiles;

  /** @internal */
  constructor(generator: Generator, kept: { files: LearnedFiles; step: number; eval_loss: number | null }) {
    [this.step, this.eval_loss] = [kept.step, kept.eval_loss];
    [this.#generator, this.#files] = [generator, kept.files];
  }

  /**
   * Its checkpoint, which `createGenerator` takes as `{ files }`: `config.json`, `model.safetensors` in F32 and the
   * tokenizer's files. With a `dtype` other than `"fp32"` the weights are packed in it, as `gpt2-web convert` packs
   * them.
   */
  async merge(options: MergeOptions = {}): Promise<Record<string, Blob>> {
    const dtype = packedDtypeOf(options);
    const small = await this.#generator.contact.client.ask("small-files", {}).answer;
    if (!dtype) return { ...blobsOf(small), ...blobsOf(this.#files) };
    const learner = new Learner(this.#generator);
    try {
      learner.post({ kind: "pack", checkpoint: this.#files, dtype });
      return { ...blobsOf(small), ...blobsOf(await mergedOf(learner)) };
    } finally {
      learner.stop();
    }
  }
}

/** Options of `merge`. */
export interface MergeOptions {
  /** The format of the weights. Default `"fp32"`, an ordinary checkpoint. */
  dtype?: "fp32" | PackedDtype;
}

function packedDtypeOf(options: MergeOptions): PackedDtype | null {
  const { dtype = "fp32", ...rest } = options;
  for (const option of Object.keys(rest)) throw invalidOption(option, "dtype", "an unknown option");
  if (!["fp32", "fp16", "q8", "q4"].includes(dtype)) throw invalidOption("dtype", "fp32, fp16, q8 or q4", dtype);
  return dtype === "fp32" ? null : dtype;
}

async function mergedOf(learner: Learner): Promise<LearnedFiles> {
  const news = await learner.next();
  if (news.kind === "merged") return news.files;
  throw makeError("internal", `expected a checkpoint of the worker, found "${news.kind}"`);
}

/** Checks that a WebAssembly memory may hold so much. */
export function checkMemory(what: string, nBytes: number): void {
  if (nBytes <= MAX_MEMORY_BYTES) return;
  const found = `${what} takes ${nBytes} bytes, and WebAssembly holds at most ${MAX_MEMORY_BYTES}`;
  throw makeError("out_of_memory", `out of memory: ${found}`, { n_bytes: nBytes, max_bytes: MAX_MEMORY_BYTES });
}
