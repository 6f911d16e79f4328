// Code that was typed by transformers.js takes what this package gives, where both have it.
import type * as theirs from "@huggingface/transformers";
import * as ours from "../../src/adapters/transformers.js";

declare const pipe: ours.TextGenerationPipeline;
declare const progress: theirs.ProgressCallback;
declare const texts: string[];

export const loading: Promise<ours.TextGenerationPipeline> = ours.pipeline("text-generation", "openai-community/gpt2", {
  device: "webgpu",
  dtype: "q4f16",
  revision: "main",
  progress_callback: progress,
});
export const one: Promise<theirs.TextGenerationStringOutput> = pipe("a text", { max_new_tokens: 5 });
export const several: Promise<theirs.TextGenerationStringOutput[]> = pipe(texts);
export const disposal: Promise<unknown> = pipe.dispose();

/** The options that both have. */
type Shared =
  | "do_sample"
  | "eos_token_id"
  | "max_length"
  | "max_new_tokens"
  | "no_repeat_ngram_size"
  | "num_return_sequences"
  | "output_attentions"
  | "pad_token_id"
  | "repetition_penalty"
  | "return_full_text"
  | "temperature"
  | "top_k"
  | "top_p";
type TheirOptions = NonNullable<Parameters<theirs.TextGenerationPipeline["_call"]>[1]>;
declare const given: Required<Pick<TheirOptions, Shared>>;
export const options: ours.TextGenerationOptions = given;

/** A streamer that does something of its own with what it gets, written against the other library. */
declare const streamerOptions: Required<
  Pick<
    NonNullable<ConstructorParameters<typeof theirs.TextStreamer>[1]>,
    "skip_prompt" | "callback_function" | "token_callback_function"
  >
>;
export const streamer = new ours.TextStreamer(pipe.tokenizer, streamerOptions);
export const put: theirs.BaseStreamer["put"] = streamer.put;
export const finalized: theirs.TextStreamer["on_finalized_text"] = streamer.on_finalized_text;
export const criteria: Pick<theirs.InterruptableStoppingCriteria, "interrupted" | "interrupt" | "reset"> =
  new ours.InterruptableStoppingCriteria();

/** With `await`, the tokenizer's answers are the other's. */
type Lists = ReturnType<typeof theirs.PreTrainedTokenizer.prototype._call<string, false>>;
export async function tokenize(): Promise<[Pick<Lists, "input_ids" | "attention_mask">, number[], string]> {
  return [await pipe.tokenizer("a text"), await pipe.tokenizer.encode("a text"), await pipe.tokenizer.decode([1n])];
}

// @ts-expect-error A chat has no type here.
pipe([{ role: "user", content: "a text" }]);
// @ts-expect-error Nor has another task.
ours.pipeline("summarization");
