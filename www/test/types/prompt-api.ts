// Code that was typed by the browser's `LanguageModel` takes this package's in its place.
import * as ours from "../../src/adapters/prompt-api.js";

/**
 * What the specification keeps for old pages and extensions only, and two whose types name the class itself, which are
 * looked at one by one.
 */
type Apart = "inputQuota" | "inputUsage" | "measureInputUsage" | "onquotaoverflow" | "oncontextoverflow" | "clone";
declare const model: ours.LanguageModel;

export const theirs: Omit<LanguageModel, Apart> = model;
export const clone: (options?: LanguageModelCloneOptions) => Promise<Omit<LanguageModel, Apart>> = model.clone;
model.oncontextoverflow = function (this: EventTarget, event: Event) {
  console.log(this, event.type);
};

/** The class itself. */
export const create: (options?: LanguageModelCreateOptions) => Promise<Omit<LanguageModel, Apart>> =
  ours.LanguageModel.create;
export const availability: (options?: LanguageModelCreateCoreOptions) => Promise<Availability> =
  ours.LanguageModel.availability;
export const params: () => Promise<LanguageModelParams> = ours.LanguageModel.params;

export const prompts: LanguageModelPrompt[] = [
  "a text",
  [
    { role: "user", content: [{ type: "text", value: "a text" }] },
    { role: "assistant", content: "Once", prefix: true },
  ],
];
export const answers: Promise<string>[] = prompts.map((prompt) =>
  model.prompt(prompt, { signal: AbortSignal.any([]) }),
);
export const pieces: ReadableStream<string>[] = prompts.map((prompt) => model.promptStreaming(prompt));
