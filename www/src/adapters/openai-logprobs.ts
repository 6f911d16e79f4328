/** Log-probabilities in OpenAI's form: a token is named by its text, and four lists have an entry for each token. */

import type { GeneratorTokenizer } from "../api/generator.js";
import type { Chunk, Score, TokenLogprob } from "../api/types.js";
import type { CompletionLogprobs } from "./openai-types.js";

/** What stands for bytes that are no whole character. */
const REPLACEMENT = "\ufffd";
/** The most tokens that one character can be spread over: each has a byte of it at least. */
const MAX_CHARACTER_TOKENS = 4;

/** Writes down the tokens of one text. */
export class LogprobWriter {
  #tokenizer: GeneratorTokenizer;
  /** Where the next token begins. */
  #offset: number;
  /** Tokens of a character that is not complete yet. */
  #pending: number[] = [];

  /** @param offset length of the prompt */
  constructor(tokenizer: GeneratorTokenizer, offset: number) {
    this.#tokenizer = tokenizer;
    this.#offset = offset;
  }

  /** The lists of one token. */
  async write({ token_id, logprob, top_logprobs }: Chunk): Promise<CompletionLogprobs | null> {
    if (token_id === null || logprob === undefined) return null;
    const known = top_logprobs?.find((token) => token.token_id === token_id);
    const text = known?.text ?? (await this.#tokenizer.decode([token_id]));
    const entry = {
      tokens: [text],
      token_logprobs: [logprob],
      top_logprobs: [{ ...byText(top_logprobs ?? []), [text]: logprob }],
      text_offset: [this.#offset],
    };
    this.#pending.push(token_id);
    const written = await this.#tokenizer.decode(this.#pending);
    if (!written.endsWith(REPLACEMENT) || this.#pending.length >= MAX_CHARACTER_TOKENS) {
      this.#offset += written.length;
      this.#pending = [];
    }
    return entry;
  }
}

/** The lists of a prompt, from its score. */
export function scoredLogprobs({ tokens }: Score, nTop: number): CompletionLogprobs {
  const lists = emptyLogprobs();
  let offset = 0;
  for (const { text, logprob, top_logprobs } of tokens) {
    lists.tokens.push(text);
    lists.token_logprobs.push(logprob);
    lists.top_logprobs.push(logprob === null ? null : { ...byText(top_logprobs.slice(0, nTop)), [text]: logprob });
    lists.text_offset.push(offset);
    offset += text.length;
  }
  return lists;
}

/** One text's lists, one behind the other. */
export function joinLogprobs(a: CompletionLogprobs | null, b: CompletionLogprobs | null): CompletionLogprobs | null {
  if (!a || !b) return a ?? b;
  return {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: [...a.top_logprobs, ...b.top_logprobs],
    text_offset: [...a.text_offset, ...b.text_offset],
  };
}

function emptyLogprobs(): CompletionLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

function byText(tokens: TokenLogprob[]): Record<string, number> {
  return Object.fromEntries(tokens.map(({ text, logprob }) => [text, logprob]));
}
