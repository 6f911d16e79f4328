/** A request that writes or scores: what the loop knows of it, and what it tells it. */

import type { Chunk } from "../api/types.js";

/** How a request may be ended from outside. */
export interface Pace {
  signal: AbortSignal;
  /** Whether to end softly at the next token. */
  interrupted(): boolean;
}

/** What a step did to one text. */
export type TextEvent = { id: number } & (
  | { kind: "prefill" | "scored"; n_done: number; n_total: number }
  | { kind: "token"; chunk: Omit<Chunk, "index">; finish_reason?: "stop" | "length" }
  /** The window has slid, or the device is another one: nothing to tell. */
  | { kind: "refill" }
  | { kind: "failed"; error: unknown }
);

/** A request whose texts the loop runs. */
export interface Task {
  pace: Pace;
  /** Whether this text is one of its. */
  has(id: number): boolean;
  /** Takes what happened to one of its texts, unless that has failed. */
  take(event: Exclude<TextEvent, { kind: "failed" }>): void;
  /** Whether all of its texts are complete. */
  isDone(): boolean;
  /** Ends softly what is not complete. */
  interrupt(): void;
  /** Takes its texts out of the scheduler, complete or not. */
  leave(): void;
}
