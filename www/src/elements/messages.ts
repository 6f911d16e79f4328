/** What the elements say, in English; the property `messages` of each replaces any of it. */

import type { GenerationResult, ProgressEvent, PromptProgress } from "../api/index.js";
import { type Explanation, explain } from "./explain.js";
import { countText, progressText, promptText, rateText } from "./figures.js";

/** Every text of `<gpt2-generator>`. */
export interface GeneratorMessages {
  label: string;
  generate: string;
  stop: string;
  cancel: string;
  retry: string;
  copy: string;
  copied: string;
  again: string;
  progressLabel: string;
  outputLabel: string;
  loading: string;
  ready: string;
  cancelled: string;
  writing: string;
  notCopied: string;
  progress(event: ProgressEvent): string;
  reading(event: PromptProgress): string;
  speed(tokensPerSecond: number): string;
  finished(result: GenerationResult): string;
  error(error: unknown): Explanation;
}

/** Every text of `<gpt2-autocomplete>`. */
export interface AutocompleteMessages {
  /** What a screen reader hears of a suggestion. */
  suggestion(text: string): string;
  /** The chip on a touch screen. */
  take(text: string): string;
  progress(event: ProgressEvent): string;
  failed(error: unknown): string;
}

/** Every text of `<gpt2-surprise>`. */
export interface SurpriseMessages {
  label: string;
  loading: string;
  scoring: string;
  empty: string;
  first: string;
  rivals: string;
  progress(event: ProgressEvent): string;
  failed(error: unknown): string;
  /** What a token's detail says: its bits, how many tokens were likelier, its probability. */
  token(text: string, bits: number, rank: number, probability: number): string;
}

export const GENERATOR_MESSAGES: GeneratorMessages = {
  label: "Your beginning",
  generate: "Generate",
  stop: "Stop",
  cancel: "Cancel",
  retry: "Retry",
  copy: "Copy",
  copied: "Copied",
  again: "Another",
  progressLabel: "Loading the model",
  outputLabel: "Text",
  loading: "Loading the model.",
  ready: "The model is ready.",
  cancelled: "Loading was cancelled.",
  writing: "Writing.",
  notCopied: "The browser did not let the page copy.",
  progress: progressText,
  reading: promptText,
  speed: rateText,
  finished: ({ usage }) => `Finished: ${countText(usage.completion_tokens, "token")}.`,
  error: explain,
};

export const AUTOCOMPLETE_MESSAGES: AutocompleteMessages = {
  suggestion: (text) => `Suggestion: ${text}. Tab accepts, Escape dismisses.`,
  take: (text) => text,
  progress: progressText,
  failed: (error) => `No suggestions: ${explain(error).title}.`,
};

export const SURPRISE_MESSAGES: SurpriseMessages = {
  label: "Text, token by token",
  loading: "Loading the model…",
  scoring: "Reading…",
  empty: "",
  first: "The first token: nothing stands before it, so nothing was expected.",
  rivals: "Likelier here",
  progress: progressText,
  failed: (error) => explain(error).title,
  token: (text, bits, rank, probability) =>
    `“${text}”: ${bits.toFixed(1)} bits, probability ${(100 * probability).toPrecision(2)} %, ` +
    (rank === 0 ? "the likeliest" : `${countText(rank, "token")} were likelier`),
};
