/** Options of a language model, as the Prompt API's specification has them, and how they are checked. */

import type { Generator } from "../api/generator.js";
import type { CreateGeneratorOptions, GenerateOptions, ModelSource } from "../api/types.js";
import { type LanguageModelMessage, notSupported, type RoleTemplate } from "./prompt-template.js";

/** How much an answer is left to chance. */
export type LanguageModelSamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

/** What each mode stands for. A temperature of 0 always takes the most likely token. */
export const SAMPLING_MODES: Record<LanguageModelSamplingMode, { temperature: number; topK: number }> = {
  "most-predictable": { temperature: 0, topK: 1 },
  predictable: { temperature: 0.5, topK: 20 },
  balanced: { temperature: 0.8, topK: 50 },
  creative: { temperature: 1, topK: 100 },
  "most-creative": { temperature: 1.2, topK: 200 },
};

/** What `LanguageModel.params()` tells. */
export interface LanguageModelParams {
  readonly defaultTopK: number;
  readonly maxTopK: number;
  readonly defaultTemperature: number;
  readonly maxTemperature: number;
}

export const PARAMS: LanguageModelParams = {
  defaultTopK: SAMPLING_MODES.balanced.topK,
  maxTopK: 1000,
  defaultTemperature: SAMPLING_MODES.balanced.temperature,
  maxTemperature: 2,
};

/** What a model reads or writes. */
export interface LanguageModelExpected {
  type: "text" | "image" | "audio";
  languages?: string[];
}

/** What of the options a model has to be able to do. */
export interface LanguageModelCreateCoreOptions {
  samplingMode?: LanguageModelSamplingMode;
  /** Not together with `samplingMode`. The specification has it for extensions only; here it works everywhere. */
  topK?: number;
  /** As `topK`. */
  temperature?: number;
  expectedInputs?: LanguageModelExpected[];
  expectedOutputs?: LanguageModelExpected[];
  /** GPT-2 calls no tools: any is a `NotSupportedError`. */
  tools?: object[];
  /** What the specification leaves to the browser, for this model alone. */
  gpt2?: Gpt2Options;
}

/** Has the event `downloadprogress`, which tells how far a download is: `loaded` runs from 0 to 1. */
export class CreateMonitor extends EventTarget {
  /** Called with the event. */
  ondownloadprogress: ((this: CreateMonitor, event: ProgressEvent) => unknown) | null = null;
}

/** → tells a monitor how far a download is, from 0 to 1; a number that is no progress is not told */
export function progressOf(monitor: CreateMonitor): (loaded: number) => void {
  let last = -1;
  return (loaded) => {
    if (loaded <= last) return;
    last = loaded;
    const event = new ProgressEvent("downloadprogress", { lengthComputable: true, loaded, total: 1 });
    monitor.ondownloadprogress?.(event);
    monitor.dispatchEvent(event);
  };
}

/** Options of `LanguageModel.create`. */
export interface LanguageModelCreateOptions extends LanguageModelCreateCoreOptions {
  /** Cancels the creation and, afterwards, destroys the model. */
  signal?: AbortSignal;
  /** Gets a monitor of the download, before that begins. */
  monitor?: (monitor: CreateMonitor) => void;
  /** Never forgotten; a system message may come first. */
  initialPrompts?: LanguageModelMessage[];
}

/** Which GPT-2 answers, and how. */
export interface Gpt2Options {
  /** A loaded generator, which is not disposed of with the model. Goes before `model` and `load`. */
  generator?: Generator;
  /** Default `"demo"`. Models of the same source share one generator, which ends with the last of them. */
  model?: ModelSource;
  /** Options of `createGenerator`. */
  load?: Omit<CreateGeneratorOptions, "progress_callback" | "signal">;
  /** How roles are written. Default {@link DEFAULT_TEMPLATE}. */
  template?: RoleTemplate;
  /** More options of each answer, such as `max_new_tokens` (default 128) or `seed`. */
  generate?: Omit<GenerateOptions, "signal" | "stop" | "progress_callback">;
}

/** The sampling of a model. */
export interface Sampling {
  temperature: number;
  topK: number;
  /** `undefined` where `topK` or `temperature` was given. */
  mode: LanguageModelSamplingMode | undefined;
}

/**
 * Reads the sampling options.
 *
 * @throws `TypeError` and `RangeError` as the specification has them
 */
export function samplingOf({ samplingMode, topK, temperature }: LanguageModelCreateCoreOptions): Sampling {
  if (topK === undefined && temperature === undefined) {
    const mode = samplingMode ?? "balanced";
    if (!Object.hasOwn(SAMPLING_MODES, mode)) {
      throw new TypeError(`samplingMode: expected one of ${Object.keys(SAMPLING_MODES).join(", ")}, found ${mode}`);
    }
    return { ...SAMPLING_MODES[mode], mode };
  }
  if (samplingMode !== undefined) throw new TypeError("samplingMode: expected none beside topK or temperature");
  const [k, t] = [topK ?? PARAMS.defaultTopK, temperature ?? PARAMS.defaultTemperature].map(Number) as [number, number];
  if (Number.isNaN(k) || k < 1) throw new RangeError(`topK: expected a number of at least 1, found ${topK}`);
  if (Number.isNaN(t) || t < 0)
    throw new RangeError(`temperature: expected a number of at least 0, found ${temperature}`);
  return {
    topK: Math.floor(Math.min(k, PARAMS.maxTopK)),
    temperature: Math.min(t, PARAMS.maxTemperature),
    mode: undefined,
  };
}

/**
 * Refuses what GPT-2 cannot do. Any language is taken, since a checkpoint does not say which ones it knows.
 *
 * @throws `NotSupportedError`, or `RangeError` for what is no language tag
 */
export function checkAbilities({ expectedInputs, expectedOutputs, tools }: LanguageModelCreateCoreOptions): void {
  if (tools && tools.length > 0) throw notSupported(`tools: expected none, found ${tools.length}`);
  for (const [name, expected] of Object.entries({ expectedInputs, expectedOutputs })) {
    for (const { type, languages } of expected ?? []) {
      if (type !== "text") throw notSupported(`${name}: expected the type "text", found "${type}"`);
      if (languages) Intl.getCanonicalLocales(languages);
    }
  }
}

/** The options of an answer. What the model's `generation_config.json` says of sampling does not count. */
export function answerOptions({ temperature, topK }: Sampling, { generate = {} }: Gpt2Options): GenerateOptions {
  const drawn = temperature === 0 ? { do_sample: false } : { do_sample: true, temperature, top_k: topK, top_p: 1 };
  return { max_new_tokens: 128, ...drawn, ...generate };
}
