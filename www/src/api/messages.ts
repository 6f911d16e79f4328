/**
 * What the page's thread and the worker say to each other: two closed unions. An unknown message is an error.
 *
 * Fields of messages have the names of the public options where they mean the same, and snake_case like those.
 */

import type { WireError } from "./errors.js";
import type {
  Chunk,
  Estimate,
  GeneratedSequence,
  GenerationResult,
  GeneratorInfo,
  GeneratorStats,
  ProgressEvent,
  PromptProgress,
  Score,
} from "./types.js";

/** A model as the worker gets it. */
export type WireModel =
  /** `files`: where each file is, if they do not lie beside `base`; there are no others. */
  | { kind: "url"; name: string; revision: string; base: string; files?: Record<string, string> }
  | { kind: "files"; name: string; files: Map<string, Blob> };

/** The names of the files that the worker needs. */
export type WorkerFile =
  | "gpt2_web_bg.wasm"
  | "gpt2_web_full_bg.wasm"
  | "gpt2_web_full.js"
  | "kernels.wasm"
  | "kernels-relaxed.wasm"
  | "kernels-threads.wasm"
  | "kernels-relaxed-threads.wasm"
  | "kernel-thread.js"
  | "hash-thread.js";

/** Loading options that can be posted. */
export interface WireLoadOptions {
  device: string;
  dtype: string;
  threads: number | "auto";
  /** `null` for what measures best. */
  max_batch_size: number | null;
  cache: boolean;
  verify: boolean;
  /** Where the worker's files are: absolute, and the script's such that a worker can be started from it. */
  files: Record<WorkerFile, string>;
  /** Whether the page's thread does the fetching, with a function of the caller's. */
  custom_fetch: boolean;
}

/** What is known of a loaded model in the worker; the page's thread knows its name and revision. */
export type WireInfo = Omit<GeneratorInfo, "model" | "revision">;

/** Whether a loaded model's packed weights are in the cache, and what went wrong on the way. */
export interface Kept {
  kept: boolean;
  warnings: string[];
}

/** What a session takes. */
export interface TextUsage {
  /** Tokens that its text has now. */
  context_usage: number;
  /** Bytes of its keys and values, of which it may share some with its copies. */
  cache_bytes: number;
}

/** A finished generation. */
export interface WireResult extends Omit<GenerationResult, "recipe" | "sequences">, TextUsage {
  sequences: Omit<GeneratedSequence, "recipe">[];
  /** Every option that was in force. */
  options: Record<string, unknown>;
  /** The whole text before the new one, if it began with more than the prompt. */
  prompt?: number[];
  /** What runs the model now, if its device was lost on the way. */
  info?: WireInfo;
}

/**
 * Every request that the worker answers: what it carries, and what its answer is. The page's thread and the worker are
 * both checked against this table.
 */
interface Requests {
  load: { body: { model: WireModel; options: WireLoadOptions }; answer: WireInfo };
  estimate: { body: { model: WireModel; options: WireLoadOptions }; answer: Estimate };
  generate: { body: { session: number | null; prompt: string | number[]; options: string }; answer: WireResult };
  score: { body: { text: string }; answer: Score };
  encode: { body: { text: string }; answer: number[] };
  decode: { body: { ids: number[] }; answer: string };
  stats: { body: object; answer: GeneratorStats };
  /** Answered with the number of the new session. */
  "session-open": { body: { clone_of: number | null }; answer: { session: number } & TextUsage };
  "session-append": { body: { session: number; text: string | number[] }; answer: TextUsage };
  "session-rewind": { body: { session: number; n_tokens: number }; answer: TextUsage };
  /** Answered with whether there was such a session. */
  "session-close": { body: { session: number }; answer: boolean };
}

export type RequestName = keyof Requests;

export type Body<N extends RequestName> = Requests[N]["body"];

export type Answer<N extends RequestName> = Requests[N]["answer"];

/** A request as it is posted. */
export interface Request<N extends RequestName> {
  kind: "request";
  id: number;
  name: N;
  body: Body<N>;
}

/** The answer to a request, with the request's name and number. */
export interface Result<N extends RequestName> {
  kind: "result";
  id: number;
  name: N;
  value: Answer<N>;
}

/** Parts of a response to a `fetch` of the worker. */
export type FetchAnswer =
  | { kind: "fetch-head"; id: number; status: number; type: string; headers: [string, string][] }
  | { kind: "fetch-chunk"; id: number; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "fetch-end"; id: number }
  | { kind: "fetch-error"; id: number; message: string };

export type ToWorker =
  | Request<RequestName>
  /** Ends a generation softly. */
  | { kind: "interrupt"; id: number }
  /** Ends any request; it is answered with an abort. */
  | { kind: "cancel"; id: number }
  /** The last message: return the GPU's memory, and say so. */
  | { kind: "dispose" }
  | FetchAnswer;

export type FromWorker =
  | Result<RequestName>
  | { kind: "error"; id: number; error: WireError }
  /** Of a load also after its answer, until it is `kept`. */
  | { kind: "progress"; id: number; event: ProgressEvent }
  | ({ kind: "kept"; id: number } & Kept)
  | { kind: "chunk"; id: number; chunk: Chunk }
  | { kind: "prompt"; id: number; event: PromptProgress }
  | { kind: "disposed" }
  /** The worker is unusable from here on. */
  | { kind: "crashed"; error: WireError }
  | { kind: "fetch"; id: number; url: string; method: "GET" | "HEAD"; headers: Record<string, string> }
  /** Room for one more chunk. */
  | { kind: "fetch-pull"; id: number }
  | { kind: "fetch-cancel"; id: number };
