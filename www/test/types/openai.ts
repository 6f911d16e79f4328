// Code that was typed by OpenAI's client takes what this package gives, where both have it.
import type * as theirs from "openai/resources/completions";
import * as ours from "../../src/adapters/openai.js";

/** `null` comes from OpenAI's server too, but their types leave it out. */
type OrNull<T> = T | null;
type TheirLogprobs = Omit<theirs.CompletionChoice.Logprobs, "token_logprobs" | "top_logprobs"> & {
  token_logprobs?: OrNull<number>[];
  top_logprobs?: OrNull<Record<string, number>>[];
};
type TheirChoice<Reason> = Omit<theirs.CompletionChoice, "finish_reason" | "logprobs"> & {
  finish_reason: Reason;
  logprobs: OrNull<TheirLogprobs>;
};
type Their<Reason> = Omit<theirs.Completion, "choices"> & { choices: TheirChoice<Reason>[] };

/** What is refused has no type. */
type Body<T> = Omit<T, "suffix" | "user" | "stream_options">;
declare const body: Body<theirs.CompletionCreateParamsNonStreaming>;
declare const streamedBody: Body<theirs.CompletionCreateParamsStreaming>;
declare const either: Body<theirs.CompletionCreateParamsBase>;

export const { completions } = new ours.OpenAI({ model: "openai-community/gpt2" });
export const whole: Promise<Their<theirs.CompletionChoice["finish_reason"]>> = completions.create(body);
export const streamed: Promise<
  AsyncIterable<Their<OrNull<theirs.CompletionChoice["finish_reason"]>>> & { controller: AbortController }
> = completions.create(streamedBody);
export const any: Promise<ours.Completion | ours.CompletionStream> = completions.create(either);
export const usage: theirs.CompletionUsage = {} as ours.CompletionUsage;

// @ts-expect-error A suffix cannot be had.
completions.create({ ...body, suffix: "end" });
