/** The loop that gets token after token from a session, and lets messages in after each. Runs in the worker. */

import type { Scorer, Session } from "../../wasm/gpt2_web.js";
import { abortError } from "../api/errors.js";
import type { WireResult } from "../api/messages.js";
import type { Chunk, PromptProgress, Score } from "../api/types.js";
import { breathe } from "../engine/breathe.js";
import type { Latencies } from "./latencies.js";
import { freeAfterFailure } from "./wasm.js";

/**
 * Tokens of a prompt that one step reads, after which the page is told how far it is. On the GPU a pass lets no message
 * in; on the CPU it pauses for them.
 */
const PROMPT_TOKENS = { wasm: 64, webgpu: 256 };
/** Tokens that are scored in one step; their logits, [32, 50257], take 6.4 MB. */
const SCORE_TOKENS = 32;

/** How a request may be ended from outside. */
export interface Pace {
  /** What runs the model now. */
  device(): "wasm" | "webgpu";
  signal: AbortSignal;
  /** Whether to end softly at the next token. */
  interrupted(): boolean;
  /** Finds another device for the model and its texts after theirs was lost; throws where there is none. */
  recover(lost: Error): Promise<void>;
}

type Step =
  | { kind: "prefill"; ms: number; n_done: number; n_total: number }
  | { kind: "token"; ms: number; chunk: Chunk; finish_reason?: "stop" | "length" }
  | { kind: "refill"; ms: number };

/** One generation to run. */
interface Generation {
  /** The text so far, the prompt included. */
  session: Session;
  /** Options as JSON. */
  options: string;
  pace: Pace;
  emit(chunk: Chunk): void;
  told(event: PromptProgress): void;
  latencies: Latencies;
  /** Takes the prompt back if the generation cannot begin. */
  undo(): void;
}

/** Runs one generation. */
export async function generate({
  session,
  options: asked,
  pace,
  emit,
  told,
  latencies,
  undo,
}: Generation): Promise<WireResult> {
  let options: Record<string, unknown> & { n_prompt: number };
  try {
    options = session.begin(asked, randomSeed()) as typeof options;
  } catch (error) {
    undo();
    throw error;
  }
  const { n_prompt, ...used } = options;
  const tokenIds: number[] = [];
  let [text, finishReason] = ["", "length" as WireResult["finish_reason"]];
  const startMs = performance.now();
  let firstMs = startMs;
  let hasRecovered = false; // since the last step that went well; a device that cannot do a single step is of no use
  try {
    for (;;) {
      await breathe();
      if (pace.signal.aborted) throw abortError();
      if (pace.interrupted()) {
        const held = session.interrupt();
        if (held !== "") emit({ text: held, token_id: null });
        [text, finishReason] = [text + held, "interrupt"];
        break;
      }
      const before = latencies.counters();
      const nTokens = PROMPT_TOKENS[pace.device()];
      let step: Step;
      try {
        step = (await session.step(nTokens)) as Step;
        hasRecovered = false;
      } catch (error) {
        if (isInterrupted(error)) continue;
        if (!isLost(error) || hasRecovered) throw error;
        await pace.recover(error); // the text and the random state are as before the step
        hasRecovered = true;
        continue;
      }
      if (step.kind === "prefill") {
        const { n_done: loaded, n_total: total } = step;
        told({ status: "prompt", progress: (100 * loaded) / total, loaded, total });
        continue;
      }
      if (step.kind === "refill") continue; // the window has slid, or the device is another one: nothing to tell
      if (tokenIds.length === 0) firstMs = performance.now();
      else latencies.add(step.ms, before);
      const { chunk } = step;
      if (chunk.token_id !== null) tokenIds.push(chunk.token_id);
      text += chunk.text;
      emit(chunk);
      if (step.finish_reason) {
        finishReason = step.finish_reason;
        break;
      }
    }
  } catch (error) {
    session.interrupt(); // text that was held back for a stop string is lost with the result
    throw error;
  }
  const promptMs = firstMs - startMs;
  const predictedMs = performance.now() - firstMs;
  return {
    text,
    token_ids: tokenIds,
    finish_reason: finishReason,
    usage: { prompt_tokens: n_prompt, completion_tokens: tokenIds.length },
    timings: {
      prompt_ms: promptMs,
      predicted_ms: predictedMs,
      prompt_per_second: perSecond(n_prompt, promptMs),
      // The first token is computed with the prompt.
      predicted_per_second: perSecond(Math.max(0, tokenIds.length - 1), predictedMs),
    },
    options: used,
    context_usage: session.contextUsage(),
  };
}

/** Scores a text. */
export async function score(scorer: Scorer, pace: Pace): Promise<Score> {
  try {
    for (;;) {
      await breathe();
      if (pace.signal.aborted) throw abortError();
      const [nDone, nTotal] = await scorer.step(SCORE_TOKENS);
      if (nDone === nTotal) break;
    }
  } catch (error) {
    freeAfterFailure(scorer); // its KV cache is as large as a session's
    throw isInterrupted(error) ? abortError() : error;
  }
  return scorer.finish() as Score; // takes the scorer
}

/** Whether an error says that a step was stopped in the middle because the request is no longer wanted. */
function isInterrupted(error: unknown): boolean {
  return (error as { code?: string } | null)?.code === "interrupted";
}

/** Whether an error says that the device is gone. */
export function isLost(error: unknown): error is Error {
  return (error as { code?: string } | null)?.code === "device_lost";
}

const perSecond = (n: number, ms: number) => (ms > 0 ? (1000 * n) / ms : 0);

/** A random seed of 53 bits, so that it is exact as a JavaScript number and can be typed in again. */
function randomSeed(): bigint {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (BigInt(high & 0x1f_ffff) << 32n) | BigInt(low);
}
