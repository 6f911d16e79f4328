/** What else the model might have written in a word's place, and how likely each was. */

import type { Chunk, Generator, TokenLogprob } from "../../api/index.js";

/** A word in another's place. */
export interface Rival {
  /** With the space before it. */
  text: string;
  /** Of the whole word: the product of its tokens' probabilities. */
  probability: number;
}

const N_TOKENS = 10;
/** The most tokens that a word is completed by. */
const MOST_MORE = 5;
/** Stands for bytes that are no whole character. */
const BROKEN = "\ufffd";

const isOpen = (text: string) => text.includes(BROKEN) || /[\p{L}\p{M}\p{N}'’]$/u.test(text);
const goesOn = (piece: string) => piece.includes(BROKEN) || /^[\p{L}\p{M}\p{N}'’]/u.test(piece);

/** The word that a token begins: the likeliest tokens are added while they go on with it. */
async function complete(
  generator: Generator,
  ids: readonly number[],
  first: TokenLogprob,
  signal: AbortSignal,
): Promise<Rival> {
  let { text, logprob } = first;
  if (!isOpen(text)) return { text, probability: Math.exp(logprob) };
  const taken = [first.token_id];
  const stream = generator.generate([...ids, first.token_id], {
    max_new_tokens: MOST_MORE,
    do_sample: false,
    logprobs: true,
    context_overflow: "stop",
    signal,
  });
  const chunks: Chunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  for (const chunk of chunks) {
    if (chunk.token_id === null) break;
    const piece = await generator.tokenizer.decode([chunk.token_id]);
    if (!goesOn(piece) && !text.includes(BROKEN)) break;
    taken.push(chunk.token_id);
    logprob += chunk.logprob ?? 0;
    // As one, since a character may be spread over tokens.
    text = await generator.tokenizer.decode(taken);
  }
  return { text, probability: Math.exp(logprob) };
}

/**
 * The likeliest words after `prompt`, likeliest first; tokens that lead to the same word count together. `found` is
 * told of them as they come.
 */
export async function rivalsAfter(
  generator: Generator,
  prompt: string | number[],
  signal: AbortSignal,
  found: (rivals: Rival[]) => void,
): Promise<Rival[]> {
  const ids = typeof prompt === "string" ? await generator.tokenizer.encode(prompt) : prompt;
  const options = { max_new_tokens: 1, do_sample: false, eos_token_id: null, top_logprobs: N_TOKENS, signal };
  let firsts: TokenLogprob[] = [];
  for await (const chunk of generator.generate(ids, options)) firsts = chunk.top_logprobs ?? firsts;
  const words = new Map<string, number>();
  const sorted = () =>
    [...words].map(([text, probability]) => ({ text, probability })).sort((a, b) => b.probability - a.probability);
  for (const first of firsts) {
    const { text, probability } = await complete(generator, ids, first, signal);
    if (text === "" || text.includes(BROKEN)) continue;
    words.set(text, (words.get(text) ?? 0) + probability);
    found(sorted());
  }
  return sorted();
}
