/** A scored text in pieces that can be shown: tokens, or several where a character is spread over them. */

import type { Generator, Score, ScoredToken, TokenLogprob } from "../api/index.js";

/** Stands for bytes that are no whole character. */
const BROKEN = "\ufffd";
/** A character has at most four bytes, so it is spread over at most so many tokens. */
const MOST_TOKENS = 4;

/** A piece of a text, as surprising as its tokens together. */
export interface Piece {
  text: string;
  /** Where it stands in the text, in UTF-16 units: [start, end). */
  start: number;
  end: number;
  /** Its first token, and how many it has. */
  firstToken: number;
  nTokens: number;
  /** -log2 of its probability; null for the first piece, which nothing predicts. */
  bits: number | null;
  /** How many tokens were likelier, at the token of it where there were most. */
  rank: number | null;
  /** How undecided the model was before it, in bits. */
  entropy: number | null;
  /** The likeliest tokens in the place of its first one. */
  rivals: TokenLogprob[];
}

function pieceOf(text: string, start: number, firstToken: number, tokens: readonly ScoredToken[]): Piece {
  const [first] = tokens;
  const isPredicted = first?.logprob !== null;
  const nats = tokens.reduce((sum, { logprob }) => sum - (logprob ?? 0), 0);
  return {
    text,
    start,
    end: start + text.length,
    firstToken,
    nTokens: tokens.length,
    bits: isPredicted ? nats / Math.LN2 : null,
    rank: isPredicted ? Math.max(...tokens.map(({ rank }) => rank ?? 0)) : null,
    entropy: first?.entropy == null ? null : first.entropy / Math.LN2,
    rivals: first?.top_logprobs ?? [],
  };
}

/** The pieces of a score, in order. */
export async function piecesOf({ tokenizer }: Generator, { tokens }: Score): Promise<Piece[]> {
  const pieces: Piece[] = [];
  let at = 0;
  for (let i = 0; i < tokens.length; ) {
    let [n, text] = [1, tokens[i]?.text ?? ""];
    while (text.includes(BROKEN) && n < MOST_TOKENS && i + n < tokens.length) {
      n += 1;
      text = await tokenizer.decode(tokens.slice(i, i + n).map(({ id }) => id));
    }
    pieces.push(pieceOf(text, at, i, tokens.slice(i, i + n)));
    at += text.length;
    i += n;
  }
  return pieces;
}

/** Four bands as in GLTR (Gehrmann et al. 2019): among the 10, 100 and 1000 likeliest tokens, or beyond. */
export function bandOf(rank: number | null): 0 | 1 | 2 | 3 {
  if (rank === null || rank < 10) return 0;
  return rank < 100 ? 1 : rank < 1000 ? 2 : 3;
}

/** What a stretch of pieces comes to. The first piece of a text is not predicted and does not count. */
export interface Sum {
  nTokens: number;
  bits: number;
  /** 2 to the power of the bits per token. */
  perplexity: number;
  bitsPerByte: number;
  /** Mean of the entropies before each piece, in bits. */
  entropy: number;
  /** How many pieces are in each band of ranks. */
  bands: [number, number, number, number];
}

const encoder = new TextEncoder();

/** Sums pieces up; null where none of them is predicted. */
export function sumOf(pieces: readonly Piece[]): Sum | null {
  const predicted = pieces.filter(({ bits }) => bits !== null);
  if (predicted.length === 0) return null;
  const bands: Sum["bands"] = [0, 0, 0, 0];
  let [nTokens, bits, nBytes, entropy] = [0, 0, 0, 0];
  for (const piece of predicted) {
    bands[bandOf(piece.rank)] += 1;
    nTokens += piece.nTokens;
    bits += piece.bits ?? 0;
    nBytes += encoder.encode(piece.text).length;
    entropy += piece.entropy ?? 0;
  }
  return {
    nTokens,
    bits,
    perplexity: 2 ** (bits / nTokens),
    bitsPerByte: bits / nBytes,
    entropy: entropy / predicted.length,
    bands,
  };
}

/** How much more surprised one model was than another, at each piece of the first, in bits. */
export function differences(ours: readonly Piece[], theirs: readonly Piece[]): (number | null)[] {
  const result: (number | null)[] = [];
  let [i, j] = [0, 0];
  // Tokens of two vocabularies end at different places: they are compared from one common end to the next.
  while (i < ours.length) {
    const from = i;
    let [a, b] = [0, 0];
    let isPredicted = true;
    let [endA, endB] = [ours[i]?.start ?? 0, theirs[j]?.start ?? Infinity];
    do {
      const piece = endA <= endB ? ours[i++] : theirs[j++];
      if (!piece) break;
      isPredicted &&= piece.bits !== null;
      if (endA <= endB) [a, endA] = [a + (piece.bits ?? 0), piece.end];
      else [b, endB] = [b + (piece.bits ?? 0), piece.end];
    } while (endA !== endB);
    const n = i - from;
    for (let k = 0; k < n; k++) result.push(isPredicted ? (a - b) / n : null);
  }
  return result;
}
