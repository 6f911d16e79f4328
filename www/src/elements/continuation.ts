/** What to ask a model for at a caret, and how much of its answer to suggest. */

/** Enough context for a few words, and short enough for the smallest window: about 150 tokens. */
const PROMPT_LENGTH = 600;

/** The prompt for a suggestion after `before`, and whether `before` ends with the space that the next word needs. */
export function promptBefore(before: string): { prompt: string; spaces: boolean } {
  // Words of GPT-2 begin with their space. After a prompt that ends with a space it writes something odd.
  const text = before.replace(/[ \t]+$/, "");
  let prompt = text.slice(-PROMPT_LENGTH);
  // The prompt begins with a whole word.
  if (text.length > PROMPT_LENGTH) prompt = prompt.replace(/^\S*\s+/, "");
  return { prompt: prompt.trim() === "" ? "" : prompt, spaces: text.length < before.length };
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
