/** What the elements say, in English; the property `messages` of each replaces any of it. */

import type { GenerationResult, ProgressEvent, PromptProgress } from "../api/index.js";
import { type Explanation, explain } from "./explain.js";
import { countText, figureText, progressText, promptText, rateText, shareText } from "./figures.js";
import type { Piece } from "./pieces.js";

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
  /** The buttons between alternatives. */
  alternatives: string;
  previous: string;
  next: string;
  /** Which of several texts is shown, from 1 on. */
  which(shown: number, n: number): string;
  progressLabel: string;
  outputLabel: string;
  loading: string;
  ready: string;
  cancelled: string;
  writing: string;
  notCopied: string;
  /** How far a load is. */
  progress(event: ProgressEvent): string;
  /** How far a long prompt has been read. */
  reading(event: PromptProgress): string;
  /** How fast the text was written. */
  speed(tokensPerSecond: number): string;
  /** What a screen reader hears when a text is complete. */
  finished(result: GenerationResult): string;
  /** What went wrong, and what to do about it. */
  error(error: unknown): Explanation;
}

/** Every text of `<gpt2-autocomplete>`. */
export interface AutocompleteMessages {
  /** What a screen reader hears of a suggestion. */
  suggestion(text: string): string;
  /** The chip on a touch screen. */
  take(text: string): string;
  /** How far a load is. */
  progress(event: ProgressEvent): string;
  /** What went wrong, in one line. */
  failed(error: unknown): string;
}

/** Every text of `<gpt2-surprise>`. */
export interface SurpriseMessages {
  label: string;
  /** The button that loads the model, where it is not there yet. */
  load: string;
  scoring: string;
  /** What a screen reader hears when a text has been read. */
  scored(nTokens: number, perplexity: number): string;
  /** Of the first piece. */
  first: string;
  /** The legend: of the four bands of ranks, of no and of many bits, of less and of more surprised than another. */
  bands: [string, string, string, string];
  few: string;
  many: string;
  less: string;
  more: string;
  /** How far a load is. */
  progress(event: ProgressEvent): string;
  /** What went wrong, in one line. */
  failed(error: unknown): string;
  /** What is told of a piece. */
  piece(piece: Piece): string;
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
  alternatives: "Alternatives",
  previous: "Previous",
  next: "Next",
  which: (shown, n) => `${shown} of ${n}`,
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
  load: "Show what surprises the model",
  scoring: "Reading…",
  scored: (nTokens, perplexity) => `Read: ${countText(nTokens, "token")}, perplexity ${figureText(perplexity)}.`,
  first: "Nothing stands before it, so nothing was expected.",
  bands: ["among the 10 likeliest", "among 100", "among 1,000", "beyond"],
  few: "0 bits",
  many: "16 bits or more",
  less: "less surprised than the other",
  more: "more surprised",
  progress: progressText,
  failed: (error) => explain(error).title,
  piece: ({ text, bits, rank, entropy }) =>
    [
      `“${text.replaceAll("\n", "⏎").trim() || "␣"}”`,
      countText(Number(figureText(bits ?? 0)), "bit"),
      rank === 0 ? "the likeliest" : `${countText(rank ?? 0, "token")} likelier`,
      shareText(2 ** -(bits ?? 0)),
      `entropy ${figureText(entropy ?? 0)} bits`,
    ].join(" · "),
};
