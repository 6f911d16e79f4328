/**
 * `pipeline("text-generation", model)` and `TextStreamer` in the shape of transformers.js 4, for pages that come from
 * there. It differs where the model runs in a worker: the tokenizer's methods give promises, and lists instead of
 * tensors. What cannot be done is an `InvalidOptionError` that names it.
 */

import { invalidOption } from "../api/errors.js";
import { createGenerator, Generator } from "../api/generator.js";
import type { CreateGeneratorOptions, GenerateOptions, ModelSource, ProgressEvent } from "../api/types.js";
import { type PipelineTokenizer, pipelineTokenizer } from "./pipeline-tokenizer.js";
import { completeAll, type Job, seedOf, withoutNull } from "./sequences.js";
import { BaseStreamer, InterruptableStoppingCriteria, TextStreamer } from "./streamer.js";

export type { PipelineTokenizer } from "./pipeline-tokenizer.js";
export { BaseStreamer, InterruptableStoppingCriteria, TextStreamer, type TextStreamerOptions } from "./streamer.js";

/** The devices of transformers.js that a page can have. */
const DEVICES = { auto: "auto", wasm: "wasm", cpu: "wasm", webgpu: "webgpu", gpu: "webgpu" } as const;

/** Its number formats, and which of ours stands for each. */
const DTYPES = {
  auto: "auto",
  fp32: "fp32",
  fp16: "fp16",
  q8: "q8",
  int8: "q8",
  uint8: "q8",
  q4: "q4",
  q4f16: "q4",
  bnb4: "q4",
} as const;

/** The length that transformers.js gives a text by default. */
const MAX_NEW_TOKENS = 256;

/** Options that are taken only with the value that changes nothing. */
const NEUTRAL: Record<string, unknown> = {
  add_special_tokens: false,
  diversity_penalty: 0,
  early_stopping: false,
  epsilon_cutoff: 0,
  eta_cutoff: 0,
  length_penalty: 1,
  num_beam_groups: 1,
  num_beams: 1,
  output_hidden_states: false,
  output_scores: false,
  penalty_alpha: 0,
  renormalize_logits: false,
  return_dict_in_generate: false,
  typical_p: 1,
  use_cache: true,
};

/** What `progress_callback` is told: the events of transformers.js, with our fields beside theirs. */
export type PipelineProgress =
  | (NumberedProgress & { status: "initiate" | "download" | "progress" | "done" })
  | (NumberedProgress & { status: "progress_total"; files: Record<string, { loaded: number; total: number }> })
  | (NumberedProgress & { status: "ready"; task: string; model: string });

/** As transformers.js has it, `progress` is 0 where the number of bytes to come is not known. */
type NumberedProgress = Omit<ProgressEvent, "progress"> & { progress: number };

/** Options of {@link pipeline}: those of `createGenerator`, under the names that transformers.js has for them. */
export interface PipelineOptions extends Omit<CreateGeneratorOptions, "device" | "dtype" | "progress_callback"> {
  device?: keyof typeof DEVICES | null;
  dtype?: keyof typeof DTYPES | null;
  /** Called with each step of loading. */
  progress_callback?: ((event: PipelineProgress) => void) | null;
}

/** Options of one call: those of `generator.generate`, and these. */
export interface TextGenerationOptions extends Omit<GenerateOptions, "progress_callback"> {
  /** Whether the prompt is part of `generated_text`. Default `true`. */
  return_full_text?: boolean;
  /** The most tokens, the prompt's included; `max_new_tokens` goes before it. */
  max_length?: number;
  /** So many texts of each prompt; with a seed, text number i has the seed plus i. Default 1. */
  num_return_sequences?: number;
  /** Takes the tokens as they come; for one prompt and one text. */
  streamer?: BaseStreamer | null;
  /** Ends the text from outside. */
  stopping_criteria?: InterruptableStoppingCriteria | InterruptableStoppingCriteria[] | null;
  /** Has no effect, since texts of different lengths are not padded here. */
  pad_token_id?: number | null;
}

/** What one prompt gives. */
export type TextGenerationOutput = { generated_text: string }[];

/** A loaded model that continues texts. */
export interface TextGenerationPipeline {
  <T extends string | string[]>(
    texts: T,
    options?: TextGenerationOptions,
  ): Promise<T extends string ? TextGenerationOutput : TextGenerationOutput[]>;
  readonly task: "text-generation";
  readonly tokenizer: PipelineTokenizer;
  /** The generator behind it, for all that transformers.js has no name for. */
  readonly generator: Generator;
  /** Ends the worker and frees its memory. */
  dispose(): Promise<void>;
}

/**
 * Loads a model, or takes a generator that is loaded already.
 *
 * @throws what `createGenerator` throws; `InvalidOptionError` for another task
 */
export async function pipeline(
  task: "text-generation",
  model: ModelSource | Generator | null = "demo",
  options: PipelineOptions = {},
): Promise<TextGenerationPipeline> {
  if (task !== "text-generation") throw invalidOption("task", '"text-generation"', task);
  const generator = model instanceof Generator ? taken(model, options) : await load(model ?? "demo", options);
  const tokenizer = pipelineTokenizer(generator.tokenizer);
  const call = (texts: unknown, callOptions: TextGenerationOptions = {}) => write(generator, texts, callOptions);
  return Object.assign(call as TextGenerationPipeline, {
    task,
    tokenizer,
    generator,
    dispose: () => generator.dispose(),
  });
}

function taken(generator: Generator, options: PipelineOptions): Generator {
  for (const name of Object.keys(options)) throw invalidOption(name, "no option beside a loaded generator", name);
  return generator;
}

function load(model: ModelSource, options: PipelineOptions): Promise<Generator> {
  const { device, dtype, progress_callback, ...given } = withoutNull(options);
  const own: CreateGeneratorOptions = given;
  if (device !== undefined) own.device = named("device", DEVICES, device);
  if (dtype !== undefined) own.dtype = named("dtype", DTYPES, dtype);
  if (progress_callback !== undefined) {
    if (typeof progress_callback !== "function") {
      throw invalidOption("progress_callback", "a function", progress_callback);
    }
    own.progress_callback = toldLikeTransformers(progress_callback);
  }
  return createGenerator(model, own);
}

function named<T extends Record<string, string>>(option: string, names: T, name: unknown): T[keyof T] {
  if (typeof name === "string" && Object.hasOwn(names, name)) return names[name] as T[keyof T];
  const expected = Object.keys(names).map((known) => JSON.stringify(known));
  throw invalidOption(option, expected.join(", "), typeof name === "object" ? JSON.stringify(name) : name);
}

/** Adds the fields that transformers.js has; an event about no file, of which it has none, is left out. */
function toldLikeTransformers(callback: (event: PipelineProgress) => void): (event: ProgressEvent) => void {
  const files: Record<string, { loaded: number; total: number }> = {};
  return (event) => {
    const { status } = event;
    const told = { ...event, progress: event.progress ?? 0 };
    if (status === "progress_total") callback({ ...told, status, files: structuredClone(files) });
    else if (status === "ready") callback({ ...told, status, task: "text-generation", model: event.name });
    else if (event.file !== "") {
      files[event.file] = { loaded: event.loaded, total: event.total };
      callback({ ...told, status });
    }
  };
}

async function write(
  generator: Generator,
  texts: unknown,
  options: TextGenerationOptions,
): Promise<TextGenerationOutput | TextGenerationOutput[]> {
  const prompts: unknown[] = Array.isArray(texts) ? texts : [texts];
  if (!prompts.every((prompt) => typeof prompt === "string")) {
    const isChat = prompts.some((prompt) => typeof prompt === "object");
    throw invalidOption(
      "texts",
      "a string or a list of strings",
      isChat ? "a chat, which GPT-2 has no template for" : texts,
    );
  }
  const {
    return_full_text = true,
    num_return_sequences: n = 1,
    max_length,
    streamer,
    stopping_criteria,
    pad_token_id: _,
    signal,
    ...asked
  } = withoutNull(options);
  const given = withoutNeutral(asked);
  if (options.eos_token_id === null) given.eos_token_id = null; // here alone, null is a value
  if (!Number.isInteger(n) || n < 1) throw invalidOption("num_return_sequences", "a whole number of at least 1", n);
  if (streamer && prompts.length * n > 1)
    throw invalidOption("streamer", "one prompt and one text", prompts.length * n);
  if (streamer) await startStreamer(generator, streamer, prompts[0] ?? "");
  const isInterrupted = interruption(stopping_criteria);

  const jobs: Job[] = [];
  for (const prompt of prompts) {
    const max_new_tokens = given.max_new_tokens ?? (await roomFor(generator, prompt, max_length));
    for (let i = 0; i < n; i++) {
      const seed = seedOf(given.seed, i);
      jobs.push({
        prompt,
        options: { ...given, max_new_tokens, ...(seed !== undefined && { seed }) },
        onChunk({ text, token_id }, stream) {
          if (streamer && token_id !== null) streamer.put([[BigInt(token_id)]]);
          if (streamer instanceof TextStreamer) streamer.on_finalized_text(text, false);
          if (isInterrupted()) stream.interrupt();
        },
      });
    }
  }
  const results = await completeAll(generator, jobs, signal);
  streamer?.end();
  const outputs = prompts.map((prompt, i) =>
    results.slice(i * n, (i + 1) * n).map(({ text }) => ({ generated_text: return_full_text ? prompt + text : text })),
  );
  return Array.isArray(texts) ? outputs : (outputs[0] ?? []);
}

/** Leaves out what has the value that changes nothing, and refuses any other value of the same options. */
function withoutNeutral(options: GenerateOptions): GenerateOptions {
  const kept = Object.entries(options).filter(([name, value]) => {
    if (!Object.hasOwn(NEUTRAL, name)) return true;
    if (value !== NEUTRAL[name]) throw invalidOption(name, String(NEUTRAL[name]), value);
    return false;
  });
  return Object.fromEntries(kept);
}

/** How many tokens may follow a prompt. */
async function roomFor(generator: Generator, prompt: string, maxLength: number | undefined): Promise<number> {
  if (maxLength === undefined) return MAX_NEW_TOKENS;
  const nPrompt = await generator.tokenizer.count(prompt);
  if (Number.isInteger(maxLength) && maxLength > nPrompt) return maxLength - nPrompt;
  throw invalidOption("max_length", `a whole number above the prompt's ${nPrompt} tokens`, maxLength);
}

async function startStreamer(generator: Generator, streamer: BaseStreamer, prompt: string): Promise<void> {
  if (!(streamer instanceof BaseStreamer)) {
    throw invalidOption("streamer", "a TextStreamer or BaseStreamer of this module", typeof streamer);
  }
  if (streamer instanceof TextStreamer && streamer.skip_prompt) return;
  streamer.put([(await generator.tokenizer.encode(prompt)).map(BigInt)]);
  if (streamer instanceof TextStreamer) streamer.on_finalized_text(prompt, false);
}

function interruption(criteria: TextGenerationOptions["stopping_criteria"]): () => boolean {
  const all = criteria ? [criteria].flat() : [];
  for (const one of all) {
    if (!(one instanceof InterruptableStoppingCriteria)) {
      throw invalidOption(
        "stopping_criteria",
        "an InterruptableStoppingCriteria of this module, or a list",
        typeof one,
      );
    }
  }
  return () => all.some(({ interrupted }) => interrupted);
}
