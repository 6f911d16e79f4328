/** Several texts of one prompt, and several prompts of one call: what more than one adapter needs. */

import type { Generator } from "../api/generator.js";
import type { GenerationStream } from "../api/stream.js";
import type { Chunk, GenerateOptions, GenerationResult } from "../api/types.js";

/** One text that is to be written. */
export interface Job {
  prompt: string | readonly number[];
  options: GenerateOptions;
  /** Called with each chunk, and with the stream that it comes from. */
  onChunk?: (chunk: Chunk, stream: GenerationStream) => void | Promise<void>;
}

/**
 * Writes all texts. When one fails, the others are cancelled, so that nothing goes on that nobody waits for.
 *
 * @returns the results in the order of the jobs
 */
export async function completeAll(
  generator: Generator,
  jobs: readonly Job[],
  signal?: AbortSignal,
): Promise<GenerationResult[]> {
  const failed = new AbortController();
  const either = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const run = async ({ prompt, options, onChunk }: Job) => {
    const stream = generator.generate(prompt, { ...options, signal: either });
    for await (const chunk of stream) await onChunk?.(chunk, stream);
    return stream.result;
  };
  try {
    return await Promise.all(jobs.map(run));
  } catch (error) {
    failed.abort();
    throw error;
  }
}

/**
 * The seed of the text with number `index` among those of one prompt: they differ, and each can be written alone again.
 * What is no seed is passed on for the generator to refuse.
 */
export function seedOf(seed: GenerateOptions["seed"], index: number): GenerateOptions["seed"] {
  const isWhole = typeof seed === "string" ? /^\d+$/.test(seed) : typeof seed === "bigint" || Number.isInteger(seed);
  if (seed === undefined || index === 0 || !isWhole) return seed;
  return BigInt.asUintN(64, BigInt(seed) + BigInt(index));
}

/** The options that are given: `null` stands for "left out", as it does in the libraries that the adapters follow. */
export function withoutNull<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const entries: [string, unknown][] = Object.entries(options);
  return Object.fromEntries(entries.filter(([, value]) => value !== null && value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
