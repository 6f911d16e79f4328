/** The model writes on at the caret, into the text. */

import type { GenerateOptions, GenerationResult, GenerationStream, Generator, Recipe } from "../../api/index.js";
import { countText, durationText, promptText, rateText } from "../../elements/figures.js";
import type { Editor } from "./editor.js";
import { promptFor, SpaceEater } from "./prompt.js";
import type { Version } from "./tree.js";

/** What is told of a run while it is under way and when it has ended. */
export interface RunEvents {
  /** How fast it is. */
  speed(text: string): void;
}

/** Why a text ended, in words. */
export function whyEnded(result: GenerationResult, options: GenerateOptions): string {
  switch (result.finish_reason) {
    case "interrupt":
      return "stopped by you";
    case "stop":
      return options.stop === undefined ? "the model ended the text" : "ended, or came to a stop text";
    case "length":
      return result.usage.completion_tokens >= (options.max_new_tokens ?? Infinity)
        ? "reached the most new tokens"
        : "the model’s window is full";
  }
}

/** What is told of a text that has ended. */
export function outcomeText(result: GenerationResult, options: GenerateOptions, firstMs: number): string {
  return [
    countText(result.usage.completion_tokens, "token"),
    rateText(result.timings.predicted_per_second),
    `first after ${durationText(firstMs)}`,
    whyEnded(result, options),
  ].join(" · ");
}

/** A text that is being written. */
export class Run {
  #stream: GenerationStream | null = null;
  #isStopped = false;
  #frame = 0;
  #pending = "";
  #version: Version | null = null;

  /** Ends it softly; what was written stays. */
  stop(): void {
    this.#isStopped = true;
    this.#stream?.interrupt();
  }

  /**
   * Writes. Null where there is no text to go on from. What was written before a failure stays in the text.
   *
   * → the result, and how long the first token took in ms
   */
  async write(
    generator: Generator,
    editor: Editor,
    options: GenerateOptions,
    { speed }: RunEvents,
  ): Promise<{ result: GenerationResult; firstMs: number } | null> {
    const caret = editor.caret;
    const asked = await promptFor(generator, editor.text.slice(0, caret), options.max_new_tokens ?? 50);
    if (!asked) return null;
    const beganMs = performance.now();
    const stream = generator.generate(asked.prompt, {
      ...options,
      progress_callback: (event) => speed(promptText(event)),
    });
    this.#stream = stream;
    if (this.#isStopped) stream.interrupt();
    const eater = new SpaceEater(asked.spaces);
    const version = editor.tree.add({ at: caret, removed: 0, inserted: "", by: "model" });
    this.#version = version;
    let [firstMs, lastMs, nTokens] = [0, 0, 0];
    try {
      for await (const chunk of stream) {
        lastMs = performance.now() - beganMs;
        firstMs ||= lastMs;
        // Text without a token was held back for a stop text, and does not count.
        if (chunk.token_id !== null) nTokens += 1;
        this.#pending += eater.take(chunk.text);
        this.#frame ||= requestAnimationFrame(() => {
          this.#show(editor);
          // The first token belongs to reading the prompt, so the rate counts from it on.
          if (lastMs > firstMs) speed(rateText(((nTokens - 1) * 1000) / (lastMs - firstMs)));
        });
        // A tab in the background has no frames; what has come is shown there as well, only less often.
        if (document.hidden && this.#pending.length > 200) this.#show(editor);
      }
    } finally {
      this.#show(editor);
      editor.tree.dropIfEmpty();
    }
    const result = await stream.result;
    version.recipe = plain(result.recipe);
    return { result, firstMs };
  }

  #show(editor: Editor): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#pending === "" || !this.#version) return;
    editor.tree.grow(this.#version, this.#pending);
    this.#pending = "";
    editor.showGrowth();
  }
}

/** A recipe as it is kept in JSON: a seed of more than 53 bits is text there. */
export function plain(recipe: Recipe): Recipe {
  return JSON.parse(JSON.stringify(recipe, (_, value) => (typeof value === "bigint" ? String(value) : value)));
}
