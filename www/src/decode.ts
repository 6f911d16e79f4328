/** The worker's loop: pulls token after token from a session, and lets messages in between any two. */

import { abortError } from "./errors.js";
import type { Answers } from "./messages.js";
import type { Latencies } from "./latencies.js";
import type { Chunk, Score } from "./types.js";
import type { Scorer, Session } from "../wasm/gpt2_web.js";

/** How a request may be ended from outside. */
export interface Pace {
  /** How many tokens can be run before the next look at `signal`. */
  stride: Stride;
  signal: AbortSignal;
  /** Whether to end softly at the next token. */
  interrupted(): boolean;
  /** Finds another device for the model and its texts after theirs was lost; throws where there is none. */
  recover(lost: Error): Promise<void>;
}

type Step =
  | { kind: "prefill"; ms: number; n_done: number; n_total: number }
  | { kind: "token"; ms: number; chunk: Chunk; finish_reason?: "stop" | "length" }
  | { kind: "full"; ms: number };

/** Runs one generation after the session's text. `undo` takes the prompt back if it cannot begin. */
export async function generate(
  session: Session,
  options_json: string,
  pace: Pace,
  emit: (chunk: Chunk) => void,
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
      let step: Step;
      try {
        step = (await session.step(pace.stride.n_tokens)) as Step;
        has_recovered = false;
      } catch (error) {
        if (!isLost(error) || has_recovered) throw error;
        await pace.recover(error); // text and random state are where they were
        has_recovered = true;
        continue;
      }
      if (step.kind === "prefill") {
        pace.stride.took(step.ms);
        continue;
      }
      if (step.kind === "full") break;
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
      const start_ms = performance.now();
      const [n_done, n_total] = await scorer.step(pace.stride.n_tokens);
      if (n_done !== n_total) pace.stride.took(performance.now() - start_ms);
      if (n_done === n_total) break;
    }
  } catch (error) {
    scorer.free(); // its cache takes as much as a session's
    throw error;
  }
  return scorer.finish() as Score; // takes the scorer
}

/** Whether an error says that the device is gone. */
export function isLost(error: unknown): error is Error {
  return (error as { code?: string } | null)?.code === "device_lost";
}

/**
 * How many tokens of a prompt to run at once: as many as take 40 ms, so that a cancel is heard within 50, and at most
 * what an engine's pass holds.
 */
export class Stride {
  n_tokens = 16;

  /** Told how long so many tokens took. */
  took(ms: number): void {
    const fitting = Math.floor((this.n_tokens * 40) / Math.max(ms, 1));
    this.n_tokens = Math.min(256, Math.max(1, fitting, this.n_tokens >> 1));
  }
}

const perSecond = (n: number, ms: number) => (ms > 0 ? (1000 * n) / ms : 0);

/** Exact as a JavaScript number, so that a reported seed can be typed in again. */
function randomSeed(): bigint {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (BigInt(high & 0x1f_ffff) << 32n) | BigInt(low);
}

const { port1, port2 } = new MessageChannel();

/** Lets waiting messages in. A timer would do, but browsers stretch those to 4 ms, as long as a token takes. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });
}
