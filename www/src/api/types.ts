/** The public types. Names follow transformers.js (options, progress) and OpenAI (sampling, usage). */

/** Where to run: `"auto"` is a real GPU that passes the self-test, else the CPU (`"wasm"`). */
export type Device = "auto" | "webgpu" | "wasm";

/** Number format of the weights in memory. `"auto"` is `"q8"` on the CPU and `"fp16"` on WebGPU. */
export type DType = "auto" | "fp32" | "fp16" | "q8" | "q4";

/**
 * Which model: `"demo"` (carried by the package), a Hugging Face id, the URL of a folder with a checkpoint's files,
 * or the files themselves.
 */
export type ModelSource = string | URL | { files: Iterable<File> | Record<string, Blob> };

/** What part of loading an event is about. */
export type ProgressPhase = "download" | "verify" | "convert" | "upload" | "compile" | "self-test";

/** One step of loading. */
export interface ProgressEvent {
  /**
   * As in transformers.js: the first four are about one file, `progress_total` about everything, `ready` comes once. A
   * `progress` of the phase `compile` is about the GPU's programs, which are compiled beside the download.
   */
  status: "initiate" | "download" | "progress" | "progress_total" | "done" | "ready";
  phase: ProgressPhase;
  /** The model. */
  name: string;
  /** The file, or `""` for events that are about none. */
  file: string;
  /** 0 to 100. */
  progress: number;
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all, as far as is known. */
  total: number;
  /** Time left, or `null` while it cannot be told. */
  eta_ms: number | null;
}

/** Options of {@link createGenerator}. */
export interface CreateGeneratorOptions {
  device?: Device;
  dtype?: DType;
  /** CPU threads: `"auto"` measures how many help. More than one needs a cross-origin isolated page. */
  threads?: "auto" | number;
  /** Branch, tag or commit of a Hugging Face model. Default `"main"`. */
  revision?: string;
  /** Default `"https://huggingface.co/"`. */
  remote_host?: string | URL;
  /** Default `"{model}/resolve/{revision}/"`. */
  remote_path_template?: string;
  /** Used instead of the platform's `fetch`: private repositories, mirrors, tests. */
  fetch?: (
    url: string,
    init: { signal: AbortSignal; method?: "GET" | "HEAD"; headers?: Record<string, string> },
  ) => Promise<Response>;
  /** Whether to keep downloads in IndexedDB. Default `true`. */
  cache?: boolean;
  /** Whether to check that files arrive whole: sizes and, where the server tells one, SHA-256. Default `true`. */
  verify?: boolean;
  progress_callback?: (event: ProgressEvent) => void;
  /** Cancels loading; the promise rejects with the platform's `AbortError`. */
  signal?: AbortSignal;
  /** `true` starts a worker. A `Worker` that runs `gpt2-web/worker` is taken over: it ends with its generator. */
  worker?: true | Worker;
  /** Where the wasm file is, if not beside the module. */
  wasm_url?: string | URL;
}

/** Options of one generation. What is left out comes from the model's `generation_config.json`, then from here. */
export interface GenerateOptions {
  /** Default 50. */
  max_new_tokens?: number;
  /** `false` is greedy. Default: `true` if `temperature`, `top_k`, `top_p`, `min_p` or `seed` is given. */
  do_sample?: boolean;
  /** Above 0. */
  temperature?: number;
  /** Only the k most likely tokens; 0 is off. */
  top_k?: number;
  /** Only the most likely tokens that make up this probability, 0 to 1. */
  top_p?: number;
  /** Only tokens at least this fraction as likely as the most likely one, 0 to 1. */
  min_p?: number;
  /** Above 0; over 1 makes tokens of the text so far less likely. */
  repetition_penalty?: number;
  /** −2 to 2, taken off the logit of each token generated so far. */
  presence_penalty?: number;
  /** −2 to 2, taken off as often as the token was generated so far. */
  frequency_penalty?: number;
  /** No sequence of so many tokens occurs twice; 0 is off. */
  no_repeat_ngram_size?: number;
  /** 64 bits: a number, a bigint, or decimal digits. */
  seed?: number | bigint | string;
  /** Text that ends the generation and is no part of it. */
  stop?: string | string[];
  /** What ends the text; `null` to go on past end of text. */
  eos_token_id?: number | number[] | null;
  /** Natural-log probability of each token under the model, before any option is applied. */
  logprobs?: boolean;
  /** That many of the most likely tokens with each; turns `logprobs` on. */
  top_logprobs?: number;
  /** Attention weights of each new token, per layer [n_head, tokens so far], row-major. */
  output_attentions?: boolean;
  /** At the end of the context window: an error beforehand, a stop there, or forget the older half. Default `"stop"`. */
  context_overflow?: "error" | "stop" | "slide";
  /** Start from what an earlier call computed for the same beginning. Default `true`. */
  prefix_reuse?: boolean;
  /** Told how far a long prompt has been read, before the first chunk. */
  progress_callback?: (event: PromptProgress) => void;
  /** Cancels: the stream and its result reject with `AbortError`. */
  signal?: AbortSignal;
}

/** How far a prompt has been read. */
export interface PromptProgress {
  status: "prompt";
  /** 0 to 100. */
  progress: number;
  /** Tokens so far; those that an earlier call has read are not counted. */
  loaded: number;
  /** Tokens to read. */
  total: number;
}

/** A token with its log-probability. */
export interface TokenLogprob {
  token_id: number;
  text: string;
  logprob: number;
}

/** What one new token adds. */
export interface Chunk {
  /** May be empty; never ends inside a character. */
  text: string;
  /** `null` only where `interrupt()` sets free text that was held back for a stop string. */
  token_id: number | null;
  logprob?: number;
  top_logprobs?: TokenLogprob[];
  /** One array [n_head, tokens so far] per layer. */
  attentions?: Float32Array[];
}

/** Everything that determines a text: plain JSON for {@link Generator.replay}. */
export interface Recipe {
  model: string;
  revision: string;
  device: string;
  dtype: string;
  prompt: string | number[];
  [option: string]: unknown;
}

/** A finished generation. */
export interface GenerationResult {
  text: string;
  token_ids: number[];
  finish_reason: "stop" | "length" | "interrupt";
  usage: { prompt_tokens: number; completion_tokens: number };
  timings: { prompt_ms: number; predicted_ms: number; prompt_per_second: number; predicted_per_second: number };
  recipe: Recipe;
}

/** One token of a scored text; nothing predicts the first. */
export interface ScoredToken {
  id: number;
  text: string;
  logprob: number | null;
  rank: number | null;
  top_logprobs: TokenLogprob[];
}

/** A scored text: `nll` is the mean negative log-probability in nats per predicted token. */
export interface Score {
  tokens: ScoredToken[];
  nll: number;
  perplexity: number;
}

/** What is running, and where. */
export interface GeneratorInfo {
  model: string;
  revision: string;
  device: "webgpu" | "wasm";
  /** Description of the GPU adapter in use. */
  adapter: string | null;
  dtype: string;
  parameters: number;
  weight_bytes: number;
  /** Tokens. */
  context_window: number;
  threads: number;
  /** Outcome of the known-answer test at load. */
  self_test: string;
  /** Why the CPU is used where the GPU was wanted. */
  fallback_reason: string | null;
  /** What went less well than it could have, such as a cache that could not be written. */
  warnings: string[];
}

/** What loading a model would take, told before anything large is fetched. */
export interface Estimate {
  /** Bytes still to be fetched, as far as the server tells. */
  download_bytes: number;
  /** Bytes that are in the cache already. */
  cached_bytes: number;
  /** Bytes that the weights will take in memory. */
  device_bytes: number;
  storage: { usage: number; quota: number };
  device: "webgpu" | "wasm";
  dtype: string;
  /** Why it would fail, or go less well than it could; empty if nothing is known to be in the way. */
  problems: string[];
}

/** Measured since loading. */
export interface GeneratorStats {
  tokens: number;
  token_ms: { p50: number; p95: number; p99: number };
  tokens_per_second: number;
  /** Bytes of WebAssembly memory. */
  bytes_held: number;
  /** This one and those below: WebGPU only. */
  dispatches_per_token: number | null;
  submits_per_token: number | null;
  /** Buffers, bind groups, pipelines and shader modules created. */
  objects_per_token: number | null;
  read_bytes_per_token: number | null;
  /** Time spent recording a token's pass. */
  encode_ms_per_token: number | null;
}

/** A model in the cache. */
export interface CachedModel {
  name: string;
  revision: string;
  /** Whether it loads without the network. One that does not is a download that goes on where it stopped. */
  complete: boolean;
  /** Number formats whose converted weights are kept; with none, a complete model has the checkpoint's own. */
  dtypes: string[];
  /** Bytes kept. */
  bytes: number;
  /** What it will be when it is complete, as far as is known. */
  total_bytes: number;
  files: string[];
  /** When the first of it was kept. */
  saved_at: string;
}
