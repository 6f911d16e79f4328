/** The tokenizer of a pipeline: the shape of transformers.js, with promises, since the real one is in the worker. */

import { invalidOption } from "../api/errors.js";
import type { GeneratorTokenizer } from "../api/generator.js";

/** Token ids, and a mask that is 1 for each of them, since nothing is padded: a list, or one list for each text. */
export interface Encoding<T extends string | string[]> {
  input_ids: T extends string ? number[] : number[][];
  attention_mask: T extends string ? number[] : number[][];
}

/** From text to token ids and back. */
export interface PipelineTokenizer {
  <T extends string | string[]>(text: T, options?: { return_tensor?: false }): Promise<Encoding<T>>;
  /** → token ids */
  encode(text: string): Promise<number[]>;
  /** The text of token ids, without special tokens. */
  decode(ids: readonly number[] | readonly bigint[], options?: { skip_special_tokens?: true }): Promise<string>;
  /** → a text for each list of token ids */
  batch_decode(
    batch: readonly (readonly number[] | readonly bigint[])[],
    options?: { skip_special_tokens?: true },
  ): Promise<string[]>;
}

/** Options of which one value can be had. */
const ONLY: Record<string, unknown> = {
  add_special_tokens: false,
  clean_up_tokenization_spaces: false,
  padding: false,
  return_tensor: false,
  skip_special_tokens: true,
  truncation: false,
};

/** Wraps a generator's tokenizer. */
export function pipelineTokenizer(own: GeneratorTokenizer): PipelineTokenizer {
  const call = async (text: string | string[], options: object = {}) => {
    check(options);
    const lists = await Promise.all([text].flat().map((one) => own.encode(one)));
    const masks = lists.map((ids) => ids.map(() => 1));
    const isList = Array.isArray(text);
    return { input_ids: isList ? lists : lists[0], attention_mask: isList ? masks : masks[0] };
  };
  const decode = async (ids: readonly number[] | readonly bigint[], options: object = {}) => {
    check(options);
    return own.decode(Array.from(ids, Number));
  };
  return Object.assign(call as PipelineTokenizer, {
    async encode(text: string, options: object = {}) {
      check(options);
      return own.encode(text);
    },
    decode,
    batch_decode: (batch: readonly (readonly number[] | readonly bigint[])[], options: object = {}) =>
      Promise.all(batch.map((ids) => decode(ids, options))),
  });
}

function check(options: object): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (!Object.hasOwn(ONLY, name)) {
      throw invalidOption(name, `one of ${Object.keys(ONLY).join(", ")}`, "an unknown option");
    }
    if (value !== ONLY[name]) throw invalidOption(name, String(ONLY[name]), value);
  }
}
