/** What the page's thread and the worker say to each other: two closed unions. An unknown message is an error. */

import type { WireError } from "./errors.js";
import type { Chunk, GenerationResult, GeneratorInfo, ProgressEvent, PromptProgress } from "./types.js";

/** A model as the worker gets it. */
export type WireModel =
  | { kind: "url"; name: string; revision: string; base: string }
  | { kind: "files"; name: string; files: Map<string, Blob> };

/** Loading options that can be posted. */
export interface WireLoadOptions {
  device: string;
  dtype: string;
  threads: number | "auto";
  cache: boolean;
  verify: boolean;
  wasm_url: string | null;
  /** Whether the page's thread does the fetching, with a function of the caller's. */
  custom_fetch: boolean;
}

export type ToWorker =
  | { kind: "load"; id: number; model: WireModel; options: WireLoadOptions }
  | { kind: "estimate"; id: number; model: WireModel; options: WireLoadOptions }
  | { kind: "generate"; id: number; session: number | null; prompt: string | number[]; options: string }
  | { kind: "score"; id: number; text: string }
  | { kind: "encode"; id: number; text: string }
  | { kind: "decode"; id: number; ids: number[] }
  | { kind: "stats"; id: number }
  | { kind: "session-open"; id: number; clone_of: number | null }
  | { kind: "session-append"; id: number; session: number; text: string | number[] }
  | { kind: "session-rewind"; id: number; session: number; n_tokens: number }
  | { kind: "session-close"; id: number; session: number }
  /** Ends a generation softly. */
  | { kind: "interrupt"; id: number }
  /** Ends any request; it is answered with an abort. */
  | { kind: "cancel"; id: number }
  /** The last message: return the GPU's memory, and say so. */
  | { kind: "dispose" }
  | { kind: "fetch-head"; id: number; status: number; headers: [string, string][] }
  | { kind: "fetch-chunk"; id: number; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "fetch-end"; id: number }
  | { kind: "fetch-error"; id: number; message: string };

export type FromWorker =
  | { kind: "result"; id: number; value: unknown }
  | { kind: "error"; id: number; error: WireError }
  | { kind: "progress"; id: number; event: ProgressEvent }
  | { kind: "chunk"; id: number; chunk: Chunk }
  | { kind: "prompt"; id: number; event: PromptProgress }
  | { kind: "disposed" }
  /** The worker is unusable from here on. */
  | { kind: "crashed"; error: WireError }
  | { kind: "fetch"; id: number; url: string; method: "GET" | "HEAD"; headers: Record<string, string> }
  /** Room for one more chunk. */
  | { kind: "fetch-pull"; id: number }
  | { kind: "fetch-cancel"; id: number };

/** Answers, by request. */
export interface Answers {
  load: Omit<GeneratorInfo, "model" | "revision">;
  /** `info`: what runs the model now, if its device was lost on the way. */
  generate: Omit<GenerationResult, "recipe"> & { options: Record<string, unknown>; context_usage: number; prompt?: number[]; info?: Answers["load"] };
  /** Number of the new session. */
  "session-open": { session: number; context_usage: number };
  /** Context usage afterwards, tokens. */
  "session-append": number;
  "session-rewind": number;
}
