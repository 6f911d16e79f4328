/** The public types. Names follow transformers.js (options, progress) and OpenAI (sampling, usage). */

import type { AdapterChoice, AdapterSource } from "./lora-types.js";

/** Where to run: `"auto"` is a real GPU that passes the self-test, else the CPU (`"wasm"`). */
export type Device = "auto" | "webgpu" | "wasm";

/**
 * Number format of the weights in memory. `"auto"` is `"q8"` on the CPU and `"fp16"` on WebGPU; of a converted folder,
 * which has one format, it is that one. For another than the folder's own, the original that it names is loaded.
 */
export type DType = "auto" | "fp32" | "fp16" | "q8" | "q4";

/**
 * Which model: `"demo"` (carried by the package), a Hugging Face id or the address of its page, the URL of a folder
 * with a checkpoint's files, or the files themselves, with the paths that they have below a chosen folder. A folder may
 * also be a converted one (`npx gpt2-web convert`), which has packed weights and the file `gpt2-web.json`.
 */
export type ModelSource = string | URL | { files: Iterable<File> | Record<string, Blob> };

/** What part of loading an event is about. */
export type ProgressPhase = "wait" | "download" | "verify" | "convert" | "upload" | "compile" | "self-test" | "keep";

/** One step of loading. */
export interface ProgressEvent {
  /**
   * As in transformers.js. `initiate`, `download`, `progress` and `done` are about one file, `progress_total` is
   * about the whole load, and `ready` comes once, when the model can write. A `progress` of another phase than
   * `download` says how far a file is checked, converted or moved to the engine's memory; one of the phase `compile`
   * is about no file but about the GPU's programs, which are compiled during the download. In the phase `wait`,
   * another tab loads the same model, and `progress_total` says how far that tab is. In the phase `keep`, which
   * comes after `ready`, the converted weights are put into the cache.
   */
  status: "initiate" | "download" | "progress" | "progress_total" | "done" | "ready";
  /** What is done to the file, or to the model. */
  phase: ProgressPhase;
  /** Name of the model. */
  name: string;
  /** Name of the file, or `""` for events that are about none. */
  file: string;
  /** Percent, 0 to 100. Of `progress_total` it is the share of all bytes to come, `null` while these are not known. */
  progress: number | null;
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all, as far as is known. */
  total: number;
  /** Milliseconds left, or `null` while that is not known. */
  eta_ms: number | null;
}

/** Options of {@link createGenerator}. */
export interface CreateGeneratorOptions {
  /** Where to run. Default `"auto"`. */
  device?: Device;
  /** Number format of the weights. Default `"auto"`. */
  dtype?: DType;
  /**
   * CPU threads. More than one needs a cross-origin isolated page. The default, `"auto"`, measures how many make it
   * faster.
   */
  threads?: "auto" | number;
  /**
   * How many texts are written together at most; more take turns. By default 8, which is fastest on
   * the CPU and what one pass of the GPU takes.
   */
  max_batch_size?: number;
  /**
   * A LoRA adapter that texts have from the start, as `generator.loadAdapter` and `generator.setAdapter`
   * give them one.
   */
  adapter?: AdapterSource;
  /** Branch, tag or commit of a Hugging Face model. Default `"main"`. */
  revision?: string;
  /** Where models that are named by a Hugging Face id come from. Default `"https://huggingface.co/"`. */
  remote_host?: string | URL;
  /** Path of such a model's files on that host. Default `"{model}/resolve/{revision}/"`. */
  remote_path_template?: string;
  /** Used instead of the platform's `fetch`, for example to send an access token. */
  fetch?: (
    url: string,
    init: { signal: AbortSignal; method?: "GET" | "HEAD"; headers?: Record<string, string> },
  ) => Promise<Response>;
  /** Whether to keep downloads in IndexedDB. Default `true`. */
  cache?: boolean;
  /** Whether to check the size and, where the server gives one, the SHA-256 of each file. Default `true`. */
  verify?: boolean;
  /** Called with each step of loading. */
  progress_callback?: (event: ProgressEvent) => void;
  /** Cancels loading; the promise rejects with the signal's reason, by default the platform's `AbortError`. */
  signal?: AbortSignal;
  /**
   * A `Worker` that runs `gpt2-web/worker`, which is then used and ended with the generator. By default, or with
   * `true`, a worker is started.
   */
  worker?: true | Worker;
  /**
   * Where the workers' files are (`dist/*.wasm`, `dist/*-thread.js`, `dist/gpt2_web_full.js`, `dist/learn-worker.js`),
   * if not where the build laid them: the URL of a folder, or a function from a file's name to its URL.
   */
  wasm_url?: string | URL | ((file: string) => string | URL);
}

/**
 * Options of one generation. An option that is left out has the value in the model's `generation_config.json` or, if
 * there is none, the default given here.
 */
export interface GenerateOptions {
  /** The most tokens to write. Default 50. */
  max_new_tokens?: number;
  /**
   * Whether to sample; `false` always takes the most likely token. Default: `true` if `temperature`, `top_k`, `top_p`,
   * `min_p` or `seed` is given.
   */
  do_sample?: boolean;
  /** Divides the logits before sampling: below 1 likely tokens become likelier. 0 is greedy. Default 1. */
  temperature?: number;
  /** Samples from this many of the most likely tokens; 0 is off. Default 50, as in transformers. */
  top_k?: number;
  /** Samples from the most likely tokens that together have this probability, 0 to 1. */
  top_p?: number;
  /** Samples from tokens that are at least this fraction as likely as the most likely one, 0 to 1. */
  min_p?: number;
  /** Above 0; more than 1 makes the tokens of the text so far less likely. */
  repetition_penalty?: number;
  /** −2 to 2, subtracted from the logit of each token that was generated so far. */
  presence_penalty?: number;
  /** −2 to 2, subtracted from a token's logit as many times as the token was generated so far. */
  frequency_penalty?: number;
  /** No sequence of this many tokens occurs twice; 0 is off. */
  no_repeat_ngram_size?: number;
  /** Added to the logits of these tokens, by their ids, as in OpenAI's API; −100 to 100. */
  logit_bias?: Record<number, number>;
  /** Added to the logit of the last token of each sequence where the others stand before it. */
  sequence_bias?: [ids: number[], bias: number][];
  /** Sequences of tokens that are never written. */
  bad_words_ids?: number[][];
  /** The text does not end, by a token that ends it, before it has this many new tokens. */
  min_new_tokens?: number;
  /** Tokens that are never written. */
  suppress_tokens?: number[];
  /** Tokens that are not written as the first new one. */
  begin_suppress_tokens?: number[];
  /** The token that is written first, behind a prompt of one token. */
  forced_bos_token_id?: number | null;
  /** The token, or tokens, one of which is written as the last of `max_new_tokens`. */
  forced_eos_token_id?: number | number[] | null;
  /** From so many new tokens on, makes the end of text likelier with each token: [tokens, factor]. */
  exponential_decay_length_penalty?: [start: number, factor: number] | null;
  /** The same seed gives the same text. 64 bits: a number, a bigint, or decimal digits. */
  seed?: number | bigint | string;
  /**
   * Ends the generation where one of these texts comes up, which is not part of the result. Special tokens count too.
   */
  stop?: string | string[];
  /** Tokens that end the text; with `null` it goes on after the model's end of text. */
  eos_token_id?: number | number[] | null;
  /** Gives the natural logarithm of each token's probability under the model, before any option is applied. */
  logprobs?: boolean;
  /** Gives this many of the most likely tokens with each token; turns `logprobs` on. */
  top_logprobs?: number;
  /** Gives the attention weights of each new token: for each layer [n_head, tokens so far], row-major. */
  output_attentions?: boolean;
  /**
   * What happens where the text gets longer than the context window: `"error"` refuses beforehand, `"stop"` ends the
   * text there, `"slide"` forgets the older half of the text and goes on. Default `"stop"`.
   */
  context_overflow?: "error" | "stop" | "slide";
  /**
   * So many texts of one prompt, at most 128: it is read once, and they are written together. The first has the seed of
   * the request, the others have seeds that are derived from it. Default 1; more are for sampling only, as in
   * transformers, and not for a session, which is one text.
   */
  num_return_sequences?: number;
  /**
   * How many of the next tokens may be guessed from what stands earlier in the text, to be verified in one pass. It
   * makes texts that repeat themselves faster, and changes no text. `"auto"`, the default, guesses as many as promise
   * to save time; 0 or `null` is off. Where a GPU chooses the tokens itself, passes ahead of the page, none are
   * guessed.
   */
  prompt_lookup_num_tokens?: "auto" | number | null;
  /** The loaded LoRA adapters that the text is computed with. Default: those that `generator.setAdapter` chose. */
  adapter?: AdapterChoice;
  /** Whether to use what an earlier call computed for the same beginning. Default `true`. */
  prefix_reuse?: boolean;
  /** Called, before the first chunk, with how far a long prompt has been read. */
  progress_callback?: (event: PromptProgress) => void;
  /** Cancels: the stream and its result reject with the signal's reason, by default `AbortError`. */
  signal?: AbortSignal;
}

/** How far a prompt has been read. */
export interface PromptProgress {
  /** Always this, so that the events of a load and of a prompt can be told apart. */
  status: "prompt";
  /** Percent, 0 to 100. */
  progress: number;
  /** Tokens read so far, without those that an earlier call has read. */
  loaded: number;
  /** Tokens to read. */
  total: number;
}

/** A token with its log-probability. */
export interface TokenLogprob {
  /** The token's number in the vocabulary. */
  token_id: number;
  /** The token as text. */
  text: string;
  /** Natural logarithm of the token's probability: nats, 0 or less. */
  logprob: number;
}

/** What one new token adds to the text. */
export interface Chunk {
  /** Which of the texts it belongs to: below `num_return_sequences`, so 0 where there is one. */
  index: number;
  /** Whole characters; may be empty. */
  text: string;
  /** `null` only for text that was held back for a stop string when `interrupt()` ended the generation. */
  token_id: number | null;
  /** Natural logarithm of its probability, with `logprobs`. */
  logprob?: number;
  /** The most likely tokens in its place, likeliest first, with `top_logprobs`. */
  top_logprobs?: TokenLogprob[];
  /** One array [n_head, tokens so far] per layer. */
  attentions?: Float32Array[];
}

/** Everything that determines a text: plain JSON for {@link Generator.replay}. */
export interface Recipe {
  /** The model as it was named to {@link createGenerator}. */
  model: string;
  /** Branch, tag or commit. */
  revision: string;
  /** What it ran on: `"webgpu"` or `"wasm"`. */
  device: string;
  /** The format of the weights. */
  dtype: string;
  /** The prompt, as text or token ids. */
  prompt: string | number[];
  /** The LoRA adapters that the text was computed with, and their weights; `null` for none. */
  adapter?: Record<string, number> | null;
  [option: string]: unknown;
}

/** A text that was written after a prompt. */
export interface GeneratedText {
  /** What was written, without the prompt. */
  text: string;
  /** Its tokens. */
  token_ids: number[];
  /** `"stop"`: by itself or at a stop string; `"length"`: `max_new_tokens`, or a full window; `"interrupt"`: by you. */
  finish_reason: "stop" | "length" | "interrupt";
}

/** One of the texts of a prompt. */
export interface GeneratedSequence extends GeneratedText {
  /** Which of them it is, from 0 on. */
  index: number;
  /** Its own seed; as decimal digits where it is too large for an exact number. */
  seed: number | string;
  /** What writes this text again, alone. */
  recipe: Recipe;
}

/** A finished generation: its text, or the first of its texts, and all of them. */
export interface GenerationResult extends GeneratedText {
  /** All texts: `num_return_sequences` of them. */
  sequences: GeneratedSequence[];
  /** Numbers of tokens: of the prompt, and written, of all texts together. */
  usage: { prompt_tokens: number; completion_tokens: number };
  /**
   * Milliseconds until the first token, which the prompt takes, and from there to the end; and tokens per second of
   * each, of all texts together. What else is written meanwhile takes its share of the time.
   */
  timings: { prompt_ms: number; predicted_ms: number; prompt_per_second: number; predicted_per_second: number };
  /** What writes the same text, or texts, again. */
  recipe: Recipe;
}

/** One token of a scored text. The first has no `logprob`, no `rank` and no `entropy`, since nothing predicts it. */
export interface ScoredToken {
  /** The token's number in the vocabulary. */
  id: number;
  /** The token as text. */
  text: string;
  /** Natural logarithm of its probability after what stands before it, in nats. */
  logprob: number | null;
  /** How many tokens are likelier: 0 is the most likely one. */
  rank: number | null;
  /** How undecided the model was in its place: the entropy of all probabilities there, in nats. */
  entropy: number | null;
  /** The ten most likely tokens in its place, likeliest first. */
  top_logprobs: TokenLogprob[];
}

/** A scored text: `nll` is the mean negative log-probability in nats per predicted token. */
export interface Score {
  /** Each token of the text. */
  tokens: ScoredToken[];
  /** Mean negative log-probability, in nats per predicted token. */
  nll: number;
  /** exp(`nll`). */
  perplexity: number;
}

/** What is running, and where. */
export interface GeneratorInfo {
  /** The model as it was named, without what signs its URL. */
  model: string;
  /** Branch, tag or commit. */
  revision: string;
  /** What it runs on. */
  device: "webgpu" | "wasm";
  /** Description of the GPU adapter in use. */
  adapter: string | null;
  /** The format of its weights. */
  dtype: string;
  /** How many numbers the model has. */
  parameters: number;
  /** Bytes of the packed weights. */
  weight_bytes: number;
  /** The most tokens that a text can have. */
  context_window: number;
  /** CPU threads in use; 1 on WebGPU. */
  threads: number;
  /**
   * Whether the CPU multiplies bytes where the weights are integers, because its processor was measured to be faster
   * so. The text is the same.
   */
  byte_products: boolean;
  /** Outcome of the test at load, which compares the engine with known answers. */
  self_test: string;
  /** Why the CPU is used, if the GPU was wanted. */
  fallback_reason: string | null;
  /** What did not work but did not stop the load either, such as a cache that could not be written. */
  warnings: string[];
}

/** What loading a model would take, known before anything large is fetched. */
export interface Estimate {
  /** Bytes that would be fetched, as far as the server gives sizes. */
  download_bytes: number;
  /** Bytes that are in the cache already. */
  cached_bytes: number;
  /** Bytes that the weights will take in memory. */
  device_bytes: number;
  /** Bytes that the origin has stored, and may store. */
  storage: { usage: number; quota: number };
  /** What it would run on. */
  device: "webgpu" | "wasm";
  /** The format that its weights would have. */
  dtype: string;
  /** What would make loading fail or work less well; empty if nothing is known. */
  problems: string[];
}

/** The median, and what 95 and 99 of 100 stay below. */
export interface Percentiles {
  /** The median. */
  p50: number;
  /** 95 of 100 stay below it. */
  p95: number;
  /** 99 of 100 stay below it. */
  p99: number;
}

/** Measured since loading; percentiles and means are those of the last 1024 events of their kind. */
export interface GeneratorStats {
  /** Tokens that were written. */
  tokens: number;
  /** Milliseconds from a request to its first token. */
  first_token_ms: Percentiles;
  /** Milliseconds from token to token of one text. */
  token_ms: Percentiles;
  /** Tokens per second of all texts together, while any is written. */
  tokens_per_second: number;
  /** Tokens per second of one text, on average. */
  tokens_per_second_per_text: number;
  /** Texts that are written and scored together now. */
  batch_size: number;
  /** How many those were, on average. */
  mean_batch_size: number;
  /** How many steps there were with one text, with two, and so on, since loading. */
  passes_by_batch_size: number[];
  /** How many they may be: the option of {@link createGenerator}, or its default. */
  max_batch_size: number;
  /** Texts that wait for their turn now. */
  queue_length: number;
  /** Tokens that were guessed from earlier text. */
  draft_tokens: number;
  /** How many of these guesses were right, 0 to 1; `null` where none was made. */
  draft_acceptance: number | null;
  /** Bytes of WebAssembly memory. */
  bytes_held: number;
  /**
   * Bytes of the keys and values of all texts: those that are written, open sessions, and earlier texts whose
   * beginnings may be used again. On the CPU they lie within `bytes_held`, and what several share counts once.
   */
  cache_bytes: number;
  /** Sessions that are not disposed of. */
  open_sessions: number;
  /** This and the following are measured on WebGPU only. */
  dispatches_per_token: number | null;
  /** Command buffers that are handed to the GPU. */
  submits_per_token: number | null;
  /** Buffers, bind groups, pipelines and shader modules that are created. */
  objects_per_token: number | null;
  /** Bytes that are read back. */
  read_bytes_per_token: number | null;
  /** Time spent on recording the commands of a token. */
  encode_ms_per_token: number | null;
}

/** A model in the cache. */
export interface CachedModel {
  /** The model as it was named, or the URL of its folder. */
  name: string;
  /** Branch, tag or commit. */
  revision: string;
  /** Whether it loads without the network. If not, loading it goes on where the download stopped. */
  complete: boolean;
  /** Number formats whose converted weights are kept. A complete model with none has the checkpoint's own weights. */
  dtypes: string[];
  /** Bytes that are kept. */
  bytes: number;
  /** Bytes that it will have when it is complete, as far as is known. */
  total_bytes: number;
  /** Names of the files that are kept. */
  files: string[];
  /** When its first file was kept, as an ISO 8601 date and time. */
  saved_at: string;
}
