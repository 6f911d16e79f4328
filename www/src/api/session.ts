/** A text that grows turn by turn, computed once. */

import type { Client } from "./client.js";
import { invalidOption } from "./errors.js";
import { promptOf } from "./validate.js";
import type { Answers } from "./messages.js";
import type { GenerationStream } from "./stream.js";
import type { GenerateOptions } from "./types.js";

type Stream = (
  session: Promise<number>,
  prompt: string | readonly number[],
  options: GenerateOptions,
  done: (answer: Answers["generate"]) => void,
) => GenerationStream;

/** A text with a KV cache of its own. */
export class Session {
  /** Tokens that fit. */
  readonly context_window: number;
  #client: Client;
  #stream: Stream;
  #number: Promise<number>;
  #usage = 0;

  /** @internal */
  constructor(client: Client, context_window: number, stream: Stream, clone_of: Promise<number> | null) {
    this.#client = client;
    this.context_window = context_window;
    this.#stream = stream;
    this.#number = this.#open(clone_of);
    // told to whoever uses the session next
    this.#number.catch(() => undefined);
  }

  /** Tokens that the context holds, as of the last answer. */
  get context_usage(): number {
    return this.#usage;
  }

  /** Appends the prompt and what the model writes after it. */
  generate(prompt: string | readonly number[] = "", options: GenerateOptions = {}): GenerationStream {
    const stream = this.#stream(this.#number, prompt, options, ({ context_usage }) => (this.#usage = context_usage));
    // what is broken off stays in the text: ask how much that is. A worker that is gone has no answer to that.
    stream.result.catch(() => this.append([]).catch(() => undefined));
    return stream;
  }

  /** Appends text, or token ids, without generating. */
  async append(text: string | readonly number[]): Promise<void> {
    const ask = { kind: "session-append" as const, session: await this.#number, text: promptOf(text) };
    this.#usage = await this.#client.ask<"session-append", number>(ask).answer;
  }

  /** Takes the last `n_tokens` back, to branch from there. */
  async rewind(n_tokens: number): Promise<void> {
    if (!Number.isInteger(n_tokens) || n_tokens < 0) throw invalidOption("n_tokens", "a whole number of at least 0", n_tokens);
    const ask = { kind: "session-rewind" as const, session: await this.#number, n_tokens };
    this.#usage = await this.#client.ask<"session-rewind", number>(ask).answer;
  }

  /** Another session with the same text so far; neither computes it again. */
  clone(): Session {
    return new Session(this.#client, this.context_window, this.#stream, this.#number);
  }

  /** Frees the cache. */
  async dispose(): Promise<void> {
    if (this.#client.is_closed) return; // it went with its generator
    await this.#client.ask<"session-close", boolean>({ kind: "session-close", session: await this.#number }).answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #open(clone_of: Promise<number> | null): Promise<number> {
    const ask = { kind: "session-open" as const, clone_of: clone_of && (await clone_of) };
    const { session, context_usage } = await this.#client.ask<"session-open", Answers["session-open"]>(ask).answer;
    this.#usage = context_usage;
    return session;
  }
}
