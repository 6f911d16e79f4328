/** What to say when a file that a checkpoint needs is not there: why not, and what is there in its place. */

import { makeError } from "../api/errors.js";
import { shownUrl } from "../files/address.js";
import type { Hub } from "../files/hub.js";
import { networkError } from "../files/request.js";

const SAVE_MODEL = "transformers writes model.safetensors with `model.save_pretrained(folder)`";
const SAVE_TOKENIZER =
  "transformers writes tokenizer.json with `AutoTokenizer.from_pretrained(…).save_pretrained(folder)`";

/** Files that hold weights in forms that cannot be read here: their names, or how these end; what they are. */
const OTHER_WEIGHTS: readonly [name: string, is: string][] = [
  ["flax_model.msgpack", `weights for Flax; ${SAVE_MODEL}`],
  ["tf_model.h5", `weights for TensorFlow; ${SAVE_MODEL}`],
  ["rust_model.ot", `weights for rust-bert; ${SAVE_MODEL}`],
  ["model.ckpt.index", `a TensorFlow checkpoint; ${SAVE_MODEL}`],
  [".gguf", "a llama.cpp model, which is quantised; take the original checkpoint"],
  [".onnx", "an ONNX model; take the checkpoint that it was made from"],
];

const OTHER_TOKENIZERS: readonly [name: string, is: string][] = [
  ["spiece.model", `a sentencepiece model, which cannot be run alone; ${SAVE_TOKENIZER}`],
  ["tokenizer.model", `a sentencepiece model, which cannot be run alone; ${SAVE_TOKENIZER}`],
  ["sentencepiece.bpe.model", `a sentencepiece model, which cannot be run alone; ${SAVE_TOKENIZER}`],
];

/** Under which names a server is asked for files that can only be told by how their names end. */
const ASKED: Readonly<Record<string, string>> = { ".gguf": "model.gguf", ".onnx": "onnx/model.onnx" };

/** The error for weights of which nothing usable was found. `names` are those that were looked for. */
export async function noWeights(hub: Hub, names: string[]): Promise<Error> {
  const expected = `this file, or one of ${names.slice(1).join(", ")}`;
  return missingOneOf(hub, names, expected, OTHER_WEIGHTS);
}

/** The error for a tokenizer of which nothing usable was found. */
export async function noTokenizer(hub: Hub): Promise<Error> {
  const names = ["tokenizer.json", "vocab.json", "vocab.txt"];
  const expected = "this file, or vocab.json and merges.txt, or vocab.txt";
  return missingOneOf(hub, names, expected, OTHER_TOKENIZERS);
}

/** The error for the first of these names, or for one that the server has refused. */
async function missingOneOf(
  hub: Hub,
  names: string[],
  expected: string,
  others: readonly [string, string][],
): Promise<Error> {
  const refused = names.find((name) => hub.refusal(name));
  if (refused !== undefined) return missing(hub, refused, expected);
  return missing(hub, names[0] ?? "", expected, await findOther(hub, others));
}

/** The first of these files that is there, and what it is. */
async function findOther(hub: Hub, others: readonly [string, string][]): Promise<string | undefined> {
  const names = hub.names();
  for (const [name, is] of others) {
    const isThere = async (asked: string) => (await hub.size(asked, 1).catch(() => null)) !== null;
    const asked = ASKED[name] ?? name;
    const found = names ? names.find((n) => n.endsWith(name)) : (await isThere(asked)) ? asked : undefined;
    if (found !== undefined) return `no such file, but ${found}: ${is}`;
  }
  return undefined;
}

/** The error for a file that a checkpoint must have, and what was found in its place. */
export function missing(hub: Hub, file: string, expected: string, found = "no such file"): Error {
  const refusal = hub.refusal(file);
  if (refusal && refusal.status >= 400) {
    const { url, status } = refusal;
    const why = status === 400 ? "" : ": the model is private, gated or does not exist";
    return networkError(url, `expected the file, found ${refusal.found}${why}`, status);
  }
  const seen = refusal ? `${refusal.found} at ${shownUrl(refusal.url)}` : found;
  return makeError("checkpoint", `${file}: expected ${expected}, found ${seen}`, { file, expected, found: seen });
}
