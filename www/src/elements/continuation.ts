/** What to ask a model for at a caret, and how much of its answer to suggest. */

import type { Generator } from "../api/index.js";

/** More text than any window of GPT-2 holds: a token of it has rarely more than 8 units. */
const MOST_UNITS = 8192;

/** The text for a suggestion after `before`, and whether `before` ends with the space that the next word needs. */
export function promptBefore(before: string): { prompt: string; spaces: boolean } {
  // Words of GPT-2 begin with their space. After a prompt that ends with a space it writes something odd.
  const text = before.replace(/[ \t]+$/, "");
  return { prompt: text.trim() === "" ? "" : text.slice(-MOST_UNITS), spaces: text.length < before.length };
}

/**
 * The newest tokens of a prompt that leave room for `room` new ones. While a text grows at its end they begin at the
 * same place for long, so that what was computed for them can be used again.
 */
export async function newestTokens(generator: Generator, prompt: string, room: number): Promise<number[]> {
  const ids = await generator.tokenizer.encode(prompt);
  const nCtx = generator.info.context_window;
  const most = Math.max(1, nCtx - Math.min(room, nCtx >> 1));
  if (ids.length <= most) return ids;
  const step = Math.max(1, most >> 2);
  return ids.slice(Math.ceil((ids.length - most) / step) * step);
}

/**
 * The part of `generated` to suggest: up to the end of the sentence or line. `whole` when that has been reached.
 *
 * `spaces`: the caret stands after a space, so only a new word fits, and it comes without its own space.
 */
export function continuation(generated: string, spaces: boolean): { text: string; whole: boolean } {
  const line = generated.search(/[\r\n]/);
  let text = line === -1 ? generated : generated.slice(0, line);
  // A full stop ends a sentence only where a space follows, so not in 3.5 or gpt-2.rs.
  const end = /[.!?…]["'”’)\]]*(?=\s)/.exec(text);
  if (end) text = text.slice(0, end.index + end[0].length);
  const whole = line !== -1 || end !== null;
  if (!spaces) return { text: text.trim() === "" ? "" : text, whole };
  // The model would go on with the word before the space, which is no suggestion for here.
  if (text !== "" && !/^\s/.test(text)) return { text: "", whole: true };
  return { text: text.trimStart(), whole };
}

/** The first word of a suggestion, with the space before it. */
export function firstWord(text: string): string {
  return /^\s*[\p{L}\p{M}\p{N}'’]+|^\s*[^\s\p{L}\p{M}\p{N}]+|^\s+/u.exec(text)?.[0] ?? text;
}
