/** The worker's loop: pulls token after token from a session, and lets messages in between any two. */

import { breathe } from "./breathe.js";
import { abortError } from "./errors.js";
import type { Answers } from "./messages.js";
import type { Latencies } from "./latencies.js";
import type { Chunk, PromptProgress, Score } from "./types.js";
import type { Scorer, Session } from "../wasm/gpt2_web.js";

/** Tokens of a prompt in one step, of which the page is told: what a pass takes. The CPU's pauses in the midst of them. */
const PROMPT_TOKENS = { wasm: 64, webgpu: 256 };
/** Tokens that are scored in one step: logits of [32, 50257] take 6.4 MB. */
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

/** Runs one generation after the session's text. `undo` takes the prompt back if it cannot begin. */
export async function generate(
  session: Session,
  options_json: string,
  pace: Pace,
  emit: (chunk: Chunk) => void,
  told: (event: PromptProgress) => void,
  latencies: Latencies,
  undo: () => void,
): Promise<Answers["generate"]> {
  let options: Record<string, unknown> & { n_prompt: number };
  try {
    options = session.begin(options_json, randomSeed()) as typeof options;
  } catch (error) {
    undo();
    throw error;
  }
  const { n_prompt, ...used } = options;
  const token_ids: number[] = [];
  let [text, finish_reason] = ["", "length" as Answers["generate"]["finish_reason"]];
  const start_ms = performance.now();
  let first_ms = start_ms;
  let has_recovered = false; // since the last step that went well: a device that cannot do one step is no use
  try {
    for (;;) {
      await breathe();
      if (pace.signal.aborted) throw abortError();
      if (pace.interrupted()) {
        const held = session.interrupt();
        if (held !== "") emit({ text: held, token_id: null });
        [text, finish_reason] = [text + held, "interrupt"];
        break;
      }
      const before = latencies.counters();
      const n_tokens = PROMPT_TOKENS[pace.device()];
      let step: Step;
      try {
        step = (await session.step(n_tokens)) as Step;
        has_recovered = false;
      } catch (error) {
        if (isInterrupted(error)) continue;
        if (!isLost(error) || has_recovered) throw error;
        await pace.recover(error); // text and random state are where they were
        has_recovered = true;
        continue;
      }
      if (step.kind === "prefill") {
        const { n_done: loaded, n_total: total } = step;
        told({ status: "prompt", progress: (100 * loaded) / total, loaded, total });
        continue;
      }
      if (step.kind === "refill") continue; // the window has slid, or the device is another: nothing new to tell
      if (token_ids.length === 0) first_ms = performance.now();
      else latencies.add(step.ms, before);
      const { chunk } = step;
      if (chunk.token_id !== null) token_ids.push(chunk.token_id);
      text += chunk.text;
      emit(chunk);
      if (step.finish_reason) {
        finish_reason = step.finish_reason;
        break;
      }
    }
  } catch (error) {
    session.interrupt(); // what was held back goes with the rest
    throw error;
  }
  const prompt_ms = first_ms - start_ms;
  const predicted_ms = performance.now() - first_ms;
  return {
    text,
    token_ids,
    finish_reason,
    usage: { prompt_tokens: n_prompt, completion_tokens: token_ids.length },
    timings: {
      prompt_ms,
      predicted_ms,
      prompt_per_second: perSecond(n_prompt, prompt_ms),
      // the first token belongs to the prompt
      predicted_per_second: perSecond(Math.max(0, token_ids.length - 1), predicted_ms),
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
      const [n_done, n_total] = await scorer.step(SCORE_TOKENS);
      if (n_done === n_total) break;
    }
  } catch (error) {
    scorer.free(); // its cache takes as much as a session's
    throw isInterrupted(error) ? abortError() : error;
  }
  return scorer.finish() as Score; // takes the scorer
}

/** Whether an error says that an engine has heard of the end in the midst of a step. */
function isInterrupted(error: unknown): boolean {
  return (error as { code?: string } | null)?.code === "interrupted";
}

/** Whether an error says that the device is gone. */
export function isLost(error: unknown): error is Error {
  return (error as { code?: string } | null)?.code === "device_lost";
}

const perSecond = (n: number, ms: number) => (ms > 0 ? (1000 * n) / ms : 0);

/** Exact as a JavaScript number, so that a reported seed can be typed in again. */
function randomSeed(): bigint {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (BigInt(high & 0x1f_ffff) << 32n) | BigInt(low);
}
