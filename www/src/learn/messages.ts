/** What the page's thread and the worker that learns say to each other: two closed unions. */

import type { WireError } from "../api/errors.js";
import type { WireWeights } from "../api/messages.js";

/** Tokens of all texts, one behind the other, and how many each text has. */
export interface WireTexts {
  ids: Uint32Array;
  lengths: Uint32Array;
}

/** An adapter beside the model, or the model itself. */
export type Method = "lora" | "full";

/** What was learnt, as files by name: PEFT's two, or a checkpoint's. */
export type LearnedFiles = Map<string, Uint8Array<ArrayBuffer>>;

/** What a run needs to go on: where it stands, and the parameters that learn with their moments. */
export interface RunState {
  progress: Readonly<Record<string, number | null>>;
  numbers: Float32Array<ArrayBuffer>;
}

/** What is to be learnt: settings as JSON, and how the model is called in the adapter's file. */
export interface Task extends WireTexts {
  settings: string;
  base: string;
}

/** What learns, by a task's settings. */
export function methodOf(settings: string): Method {
  return (JSON.parse(settings) as { method?: Method }).method ?? "lora";
}

/** What a task would take. */
export interface Plan {
  memory_bytes: number;
  steps: number;
  has_held_out: boolean;
}

/** A step, as the module reports it. */
export interface StepReport {
  step: number;
  steps: number;
  loss: number;
  eval_loss: number | null;
  learning_rate: number;
  grad_norm: number;
  n_tokens: number;
  is_last: boolean;
  is_best: boolean;
}

/** Formats that weights are packed in; fp32 is written as a checkpoint. */
export type PackedDtype = "fp16" | "q8" | "q4";

export type ToLearner =
  /** The first message: where the module is. */
  | { kind: "begin"; module: string }
  /** Answered with a plan. */
  | { kind: "plan"; weights: WireWeights; task: Task }
  /** The weights are about to come; all that is to be computed takes so many bytes. */
  | { kind: "weights"; weights: WireWeights; memory_bytes: number }
  | { kind: "piece"; bytes: Uint8Array<ArrayBuffer> }
  /** Learns, from the beginning or from where an earlier visit stood; the weights are there. */
  | { kind: "learn"; task: Task; state: RunState | null }
  /** Adds an adapter to the weights, which are there; packs them, if a format is named. */
  | { kind: "merge"; adapter: { config: string; weights: Uint8Array }; dtype: PackedDtype | null }
  /** Packs a checkpoint. */
  | { kind: "pack"; checkpoint: LearnedFiles; dtype: PackedDtype };

export type FromLearner =
  | { kind: "plan"; plan: Plan }
  | { kind: "started"; steps: number; eval_loss: number | null; files: LearnedFiles }
  /** `ms`: how long the step took. `learnt`: `null` where it is too large to be sent after every step. */
  | { kind: "step"; report: StepReport; ms: number; learnt: { files: LearnedFiles; state: RunState } | null }
  | { kind: "merged"; files: LearnedFiles }
  | { kind: "error"; error: WireError };
