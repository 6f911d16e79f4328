/** Several continuations of one text. */

import type { GenerateOptions, GenerationResult, Generator } from "../../api/index.js";

/** A piece of one of the continuations, by its number. */
export type Piece = (index: number, text: string) => void;

/** A seed, for texts that shall be told apart by it. */
export function randomSeed(): bigint {
  return BigInt(crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
}

/**
 * Writes `n` continuations, which differ by their seeds: `seed`, `seed` + 1, …
 *
 * `wait` is called between them, so that something more urgent may come first. Rejects with `AbortError` when `signal`
 * is aborted.
 */
export async function continueManyWays(
  generator: Generator,
  prompt: string | number[],
  options: GenerateOptions & { seed: bigint; signal: AbortSignal },
  { n, piece }: { n: number; piece: Piece },
): Promise<GenerationResult[]> {
  const results: GenerationResult[] = [];
  for (let index = 0; index < n; index++) {
    const stream = generator.generate(prompt, { ...options, seed: BigInt.asUintN(64, options.seed + BigInt(index)) });
    for await (const chunk of stream) piece(index, chunk.text);
    results.push(await stream.result);
  }
  return results;
}
