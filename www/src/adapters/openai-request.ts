/** Reads the body of a completion: what it asks of the generator, and what it asks of the answer. */

import { invalidOption } from "../api/errors.js";
import type { GenerateOptions } from "../api/types.js";
import { checkSignal } from "../api/validate.js";
import type { CompletionCreateParams } from "./openai-types.js";
import { withoutNull } from "./sequences.js";

/** What a prompt that is left out stands for: the beginning of a document. */
const NO_PROMPT = "<|endoftext|>";

/** OpenAI's own default. */
const MAX_TOKENS = 16;

/** As many as a score has of each token. */
const MAX_ECHO_LOGPROBS = 5;

/** Options that OpenAI has and GPT-2 cannot serve, and what is expected instead. */
const REFUSED: Record<string, string> = {
  suffix: "no suffix, since GPT-2 only continues a text",
  user: "no user, since nothing is sent anywhere",
};

/** What a body says. */
export interface CompletionRequest {
  prompts: (string | number[])[];
  /** Texts of each prompt. */
  n: number;
  options: GenerateOptions;
  /** Whether anything is to be written; else the prompts are only scored. */
  isWritten: boolean;
  echo: boolean;
  logprobs: number | undefined;
  includeUsage: boolean;
  signal: AbortSignal | undefined;
}

/**
 * Reads a body and the options beside it. Ranges of sampling options are checked by the generator.
 *
 * @throws {@link InvalidOptionError}
 */
export function readRequest(body: CompletionCreateParams, request: { signal?: AbortSignal }): CompletionRequest {
  const { model: _, stream, prompt, best_of, echo = false, logprobs, max_tokens, n = 1, ...asked } = withoutNull(body);
  const { stream_options, temperature = 1, top_p = 1, top_k = 0, ...given } = asked;
  const { signal, ...unknown } = request;
  for (const name of Object.keys(unknown)) throw invalidOption(name, "signal", "an unknown option");
  for (const [name, expected] of Object.entries(REFUSED)) {
    if (name in given) throw invalidOption(name, expected, Reflect.get(given, name));
  }
  const maxTokens = wholeFrom(echo ? 0 : 1, "max_tokens", max_tokens ?? MAX_TOKENS);
  wholeFrom(1, "n", n);
  if (best_of !== undefined && best_of !== n) throw invalidOption("best_of", `n, which is ${n}`, best_of);
  if (logprobs !== undefined) wholeFrom(0, "logprobs", logprobs);
  for (const [name, value] of Object.entries({ echo, stream: stream ?? false })) {
    if (typeof value !== "boolean") throw invalidOption(name, "true or false", value);
  }
  const { include_usage = false, ...others } = stream_options ?? {};
  if (stream_options && !stream) throw invalidOption("stream_options", "none where nothing is streamed", "some");
  for (const name of Object.keys(others)) throw invalidOption(name, "include_usage", "an unknown option");
  const prompts = promptsOf(prompt ?? NO_PROMPT);
  if (echo && logprobs !== undefined) checkEchoedLogprobs(prompts, logprobs);
  // The distribution is the model's own, as OpenAI has it, and not what a `generation_config.json` makes of it.
  const sampling = temperature === 0 ? { do_sample: false } : { do_sample: true, temperature, top_p, top_k };
  return {
    prompts,
    n,
    options: {
      ...given,
      ...sampling,
      max_new_tokens: Math.max(maxTokens, 1),
      ...(logprobs !== undefined && { logprobs: true, top_logprobs: logprobs }),
    },
    isWritten: maxTokens > 0,
    echo,
    logprobs,
    includeUsage: include_usage,
    signal: checkSignal(signal),
  };
}

function wholeFrom(min: number, name: string, value: number): number {
  if (Number.isInteger(value) && value >= min) return value;
  throw invalidOption(name, `a whole number of at least ${min}`, value);
}

function promptsOf(prompt: string | string[] | number[] | number[][]): (string | number[])[] {
  if (typeof prompt === "string") return [prompt];
  if (!Array.isArray(prompt) || prompt.length === 0) {
    throw invalidOption("prompt", "a text, token ids, or a list of either", prompt);
  }
  const isIds = (list: unknown): list is number[] => Array.isArray(list) && list.every((id) => typeof id === "number");
  if (isIds(prompt)) return [prompt];
  const wrong = prompt.find((one) => typeof one !== "string" && !isIds(one));
  if (wrong !== undefined) throw invalidOption("prompt", "a text, token ids, or a list of either", wrong);
  return prompt;
}

function checkEchoedLogprobs(prompts: (string | number[])[], logprobs: number): void {
  if (logprobs > MAX_ECHO_LOGPROBS) throw invalidOption("logprobs", `at most ${MAX_ECHO_LOGPROBS} with echo`, logprobs);
  if (prompts.some((prompt) => typeof prompt !== "string")) {
    throw invalidOption("echo", "a prompt that is a text, where logprobs are asked for", "token ids");
  }
}
