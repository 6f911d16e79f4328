/** What the page's thread and the worker that learns say to each other: two closed unions. */

import type { WireError } from "../api/errors.js";
import type { WireWeights } from "../api/messages.js";

/** Tokens of all texts, one behind the other, and how many each text has. */
export interface WireTexts {
  ids: Uint32Array;
  lengths: Uint32Array;
}

/** PEFT's files, by name. */
export type AdapterParts = Map<string, Uint8Array<ArrayBuffer>>;

/** What a run needs to go on: where it stands, and the adapter's parameters with their moments. */
export interface RunState {
  progress: Readonly<Record<string, number | null>>;
  numbers: Float32Array<ArrayBuffer>;
}

/** What is to be learnt: settings as JSON, and how the model is called in the adapter's file. */
export interface Task extends WireTexts {
  settings: string;
  base: string;
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
  n_tokens: number;
  is_last: boolean;
  is_best: boolean;
}

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
  /** Adds an adapter to the weights, which are there. */
  | { kind: "merge"; config: string; adapter: { config: string; weights: Uint8Array }; weight: number };

export type FromLearner =
  | { kind: "plan"; plan: Plan }
  | { kind: "started"; steps: number; eval_loss: number | null; files: AdapterParts }
  /** `ms`: how long the step took. */
  | { kind: "step"; report: StepReport; ms: number; files: AdapterParts; state: RunState }
  | { kind: "merged"; files: AdapterParts }
  | { kind: "error"; error: WireError };
