/** Writing one suggestion for a place in a text. Used by `<gpt2-autocomplete>`. */

import type { Chunk, GenerateOptions, GenerationResult, Generator } from "../api/index.js";
import { continuation, newestTokens } from "./continuation.js";

/** What is suggested for. */
export interface SuggestionRequest {
  /** The text before the caret, without the spaces at its end. */
  prompt: string;
  /** Whether there were some. */
  spaces: boolean;
  /** 0 is the likeliest text; others are drawn, each by a seed of its own. */
  alternative: number;
  /** How many UTF-16 units the field still takes. */
  room: number;
  /** What the page asks of the generation. */
  options: GenerateOptions;
  signal: AbortSignal;
}

/** What is told of a suggestion while it is written. */
export interface SuggestionEvents {
  /** The suggestion so far. */
  grown(text: string): void;
  chunk(chunk: Chunk): void;
}

/**
 * Writes a suggestion: up to the end of its sentence or line, after 12 tokens at most unless `options` says otherwise.
 */
export async function writeSuggestion(
  generator: Generator,
  { prompt, spaces, alternative, room, signal, options: asked }: SuggestionRequest,
  { grown, chunk: told }: SuggestionEvents,
): Promise<GenerationResult> {
  const options = { max_new_tokens: 12, do_sample: false, ...asked };
  if (alternative > 0) {
    const seed = BigInt(options.seed ?? 0) + BigInt(alternative);
    Object.assign(options, { do_sample: true, temperature: options.temperature ?? 1, seed });
  }
  const ids = await newestTokens(generator, prompt, options.max_new_tokens);
  const stream = generator.generate(ids, {
    ...options,
    // A suggestion always ends with its line.
    stop: ["\n", ...[options.stop ?? []].flat()],
    signal,
  });
  let generated = "";
  let whole = false;
  const follow = async (): Promise<void> => {
    for await (const chunk of stream) {
      if (signal.aborted || whole) continue;
      generated += chunk.text;
      const next = continuation(generated, spaces);
      whole = next.whole;
      grown(next.text.slice(0, room));
      told(chunk);
      if (whole) stream.interrupt();
    }
  };
  // Both are awaited together, since both reject when a run fails.
  const [result] = await Promise.all([stream.result, follow()]);
  return result;
}
