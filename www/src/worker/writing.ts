/** Generations and scores as tasks of the loop. */

import type { Scheduler, Scorer, Session } from "../../wasm/gpt2_web.js";
import type { WireResult } from "../api/messages.js";
import type { Chunk, PromptProgress, Score } from "../api/types.js";
import type { Loop } from "./loop.js";
import type { Metrics } from "./metrics.js";
import type { Pace, Task, TextEvent } from "./task.js";

/** What runs texts, and measures them. */
export interface Desk {
  scheduler: Scheduler;
  loop: Loop;
  metrics: Metrics;
}

/** One generation to run. */
interface Generation {
  /** The text so far, the prompt included. */
  session: Session;
  /** Options as JSON. */
  options: string;
  pace: Pace;
  emit(chunk: Chunk): void;
  told(event: PromptProgress): void;
  /** Takes the prompt back if the generation cannot begin. */
  undo(): void;
}

/** Runs one generation, of one text or of several. */
export async function generate(desk: Desk, generation: Generation): Promise<WireResult> {
  const { session, options: asked, undo } = generation;
  let options: Record<string, unknown> & { n_prompt: number };
  try {
    options = session.begin(asked, randomSeed()) as typeof options;
  } catch (error) {
    undo();
    throw error;
  }
  const { n_prompt: nPrompt, ...used } = options;
  const writing = new Writing(desk, generation);
  await desk.loop.run(writing);
  return { ...writing.result(nPrompt), options: used, ...usageOf(session) };
}

/** What a text takes. */
export function usageOf(session: Session): { context_usage: number; cache_bytes: number } {
  return { context_usage: session.contextUsage(), cache_bytes: session.cacheBytes() };
}

interface Text {
  id: number;
  seed: number | string;
  text: string;
  tokenIds: number[];
  finishReason: WireResult["finish_reason"] | null;
  /** When its last token came. */
  lastMs: number;
}

class Writing implements Task {
  readonly pace: Pace;
  #desk: Desk;
  #generation: Generation;
  #texts: Text[];
  #startMs = performance.now();
  #firstMs: number | undefined;

  constructor(desk: Desk, generation: Generation) {
    const sequences = desk.scheduler.add(generation.session) as { id: number; seed: number | string }[];
    const none = { text: "", finishReason: null, lastMs: this.#startMs };
    this.#texts = sequences.map((sequence) => ({ ...sequence, ...none, tokenIds: [] }));
    this.#desk = desk;
    this.#generation = generation;
    this.pace = generation.pace;
  }

  has(id: number): boolean {
    return this.#texts.some((text) => text.id === id);
  }

  take(event: Exclude<TextEvent, { kind: "failed" }>): void {
    if (event.kind === "prefill" && this.#firstMs === undefined) {
      const { n_done: loaded, n_total: total } = event;
      this.#generation.told({ status: "prompt", progress: (100 * loaded) / total, loaded, total });
    }
    if (event.kind !== "token") return;
    const index = this.#texts.findIndex((text) => text.id === event.id);
    const text = this.#texts[index];
    if (!text) return;
    const now = performance.now();
    if (text.tokenIds.length > 0) this.#desk.metrics.nextToken(now - text.lastMs);
    else if (this.#firstMs === undefined) this.#desk.metrics.firstToken(now - this.#startMs);
    this.#firstMs ??= now;
    text.lastMs = now;
    text.finishReason = event.finish_reason ?? null;
    this.#emit(index, text, event.chunk);
  }

  isDone(): boolean {
    return this.#texts.every(({ finishReason }) => finishReason !== null);
  }

  interrupt(): void {
    for (const [index, text] of this.#texts.entries()) {
      if (text.finishReason !== null) continue;
      const held = this.#desk.scheduler.interrupt(text.id);
      if (held !== "") this.#emit(index, text, { text: held, token_id: null });
      text.finishReason = "interrupt";
    }
  }

  leave(): void {
    const [first, ...others] = this.#texts;
    for (const { id } of others) this.#desk.scheduler.discard(id);
    if (first) this.#desk.scheduler.leave(first.id, this.#generation.session);
  }

  #emit(index: number, text: Text, chunk: Omit<Chunk, "index">): void {
    if (chunk.token_id !== null) text.tokenIds.push(chunk.token_id);
    text.text += chunk.text;
    this.#generation.emit({ index, ...chunk });
  }

  result(nPrompt: number): Omit<WireResult, "options" | "context_usage" | "cache_bytes"> {
    const sequences = this.#texts.map(({ text, tokenIds, finishReason, seed }, index) => {
      return { index, text, token_ids: tokenIds, finish_reason: finishReason ?? "length", seed };
    });
    const { text, token_ids, finish_reason } = sequences[0] ?? { text: "", token_ids: [], finish_reason: "length" };
    const nTokens = sequences.reduce((n, { token_ids }) => n + token_ids.length, 0);
    // The first token of each text is computed with the prompt.
    const nPredicted = sequences.reduce((n, { token_ids }) => n + Math.max(0, token_ids.length - 1), 0);
    const [firstMs, now] = [this.#firstMs ?? this.#startMs, performance.now()];
    const [promptMs, predictedMs] = [firstMs - this.#startMs, now - firstMs];
    return {
      text,
      token_ids,
      finish_reason,
      sequences,
      usage: { prompt_tokens: nPrompt, completion_tokens: nTokens },
      timings: {
        prompt_ms: promptMs,
        predicted_ms: predictedMs,
        prompt_per_second: perSecond(nPrompt, promptMs),
        predicted_per_second: perSecond(nPredicted, predictedMs),
      },
    };
  }
}

/** Scores a text. */
export async function score({ scheduler, loop }: Desk, scorer: Scorer, pace: Pace): Promise<Score> {
  const id = scheduler.addScore(scorer); // takes the scorer
  let [isDone, found] = [false, undefined as Score | undefined];
  await loop.run({
    pace,
    has: (other) => other === id,
    take(event) {
      isDone = event.kind === "scored" && event.n_done === event.n_total;
      if (isDone) found = scheduler.score(id) as Score;
    },
    isDone: () => isDone,
    interrupt: () => undefined,
    leave: () => scheduler.discard(id),
  });
  if (!found) throw new Error("a text was to end before it was scored");
  return found;
}

const perSecond = (n: number, ms: number) => (ms > 0 ? (1000 * n) / ms : 0);

/** A random seed of 53 bits, so that it is exact as a JavaScript number and can be typed in again. */
function randomSeed(): bigint {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (BigInt(high & 0x1f_ffff) << 32n) | BigInt(low);
}
