/** What a model is asked to go on from. */

import type { Generator } from "../../api/index.js";

/** A prompt, and what of the text before the caret is not in it. */
export interface Prompt {
  /** The text, or the newest ids that leave room in the window. */
  prompt: string | number[];
  /** The spaces before the caret: words of GPT-2 begin with theirs, so a prompt does not end with one. */
  spaces: number;
}

/**
 * The prompt for writing on after `before`, so that `room` new tokens fit. Null where there is nothing to go on from.
 */
export async function promptFor(generator: Generator, before: string, room: number): Promise<Prompt | null> {
  const text = before.replace(/[ \t]+$/, "");
  if (text.trim() === "") return null;
  const ids = await generator.tokenizer.encode(text);
  const most = Math.max(1, generator.info.context_window - Math.min(room, generator.info.context_window >> 1));
  return { prompt: ids.length > most ? ids.slice(-most) : text, spaces: before.length - text.length };
}

/** Takes the space from the first piece of a text that is put behind one. */
export class SpaceEater {
  #left: number;
  constructor(spaces: number) {
    this.#left = spaces > 0 ? 1 : 0;
  }

  take(piece: string): string {
    if (this.#left === 0 || piece === "") return piece;
    this.#left = 0;
    return piece.replace(/^ /, "");
  }
}
