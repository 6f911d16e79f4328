/** The bodies and objects of OpenAI's completions endpoint, as far as GPT-2 has use for them. */

/** What `completions.create` is asked. `null` is the same as left out. */
export interface CompletionCreateParams {
  /** The name of the loaded model, `info.model`; may be left out. */
  model?: string | null;
  /** One text or several, as strings or as token ids. Default: the beginning of a document. */
  prompt?: string | string[] | number[] | number[][] | null;
  /** Only the value of `n`. */
  best_of?: number | null;
  /** Whether the prompt is part of the text; with `logprobs` its tokens are scored too. */
  echo?: boolean | null;
  frequency_penalty?: number | null;
  /** Token id → number that is added to its logit. */
  logit_bias?: Record<string, number> | null;
  /** So many of the most likely tokens with each token. */
  logprobs?: number | null;
  /** Default 16. 0 only with `echo`: the prompt is scored, and nothing is written. */
  max_tokens?: number | null;
  /** So many texts of each prompt; with a seed, text number i has the seed plus i. */
  n?: number | null;
  presence_penalty?: number | null;
  seed?: number | null;
  stop?: string | string[] | null;
  stream?: boolean | null;
  /** `include_usage`: a last chunk with the usage and no choices. */
  stream_options?: { include_usage?: boolean } | null;
  /** 0 always takes the most likely token. Default 1. */
  temperature?: number | null;
  /** Default 1. */
  top_p?: number | null;
  /** Not OpenAI's, as the three after it, but servers with the same interface have them. Default 0, which is off. */
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  no_repeat_ngram_size?: number | null;
}

/** The tokens of a text, one entry for each in all four lists. */
export interface CompletionLogprobs {
  tokens: string[];
  /** Natural logarithms. `null` for the first token of an echoed prompt, which nothing predicts. */
  token_logprobs: (number | null)[];
  /** The most likely tokens, and the one that was taken. */
  top_logprobs: (Record<string, number> | null)[];
  /** Where the token begins, in UTF-16 units from the beginning of the prompt. */
  text_offset: number[];
}

/** How many tokens were read and written. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** Why a text ended. */
export type FinishReason = "stop" | "length";

/** One text or, in a stream, a piece of it. */
export interface CompletionChoice<Reason = FinishReason> {
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  finish_reason: Reason;
}

/** The answer. */
export interface Completion<Reason = FinishReason> {
  id: string;
  object: "text_completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  /** Version, device and number format: where they are the same, the same seed gives the same text. */
  system_fingerprint: string;
  choices: CompletionChoice<Reason>[];
  usage?: CompletionUsage;
}

/** A piece of a streamed answer; `finish_reason` is `null` but in the last piece of a text. */
export type CompletionChunk = Completion<FinishReason | null>;
