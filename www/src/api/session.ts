/** A text that grows turn by turn, of which every token is computed once. */

import type { Client } from "./client.js";
import { invalidOption } from "./errors.js";
import type { TextUsage, WireResult } from "./messages.js";
import type { GenerationStream } from "./stream.js";
import type { GenerateOptions } from "./types.js";
import { promptOf } from "./validate.js";

type Stream = (
  session: Promise<number>,
  prompt: string | readonly number[],
  options: GenerateOptions,
  done: (answer: WireResult) => void,
) => GenerationStream;

/** A text with a KV cache of its own. */
export class Session {
  /** The most tokens that the text can have. */
  readonly context_window: number;
  #client: Client;
  #stream: Stream;
  #number: Promise<number>;
  #usage: TextUsage = { context_usage: 0, cache_bytes: 0 };

  /** @internal */
  constructor(client: Client, contextWindow: number, stream: Stream, cloneOf: Promise<number> | null) {
    this.#client = client;
    this.context_window = contextWindow;
    this.#stream = stream;
    this.#number = this.#open(cloneOf);
    // A failure is told to whoever uses the session next.
    this.#number.catch(() => undefined);
  }

  /** Tokens that the text has, as the worker last told. */
  get context_usage(): number {
    return this.#usage.context_usage;
  }

  /**
   * Bytes of memory that what was computed of the text takes, as the worker last told. Copies share what they have in
   * common. It grows with the text up to the context window; what takes too much together, and was not used for long,
   * is freed and computed again when its text goes on.
   */
  get cache_bytes(): number {
    return this.#usage.cache_bytes;
  }

  /** Appends the prompt and what the model writes after it. */
  generate(prompt: string | readonly number[] = "", options: GenerateOptions = {}): GenerationStream {
    const stream = this.#stream(this.#number, prompt, options, (answer) => {
      this.#usage = answer;
    });
    // What a failed generation wrote stays in the text, so the worker is asked how long that is now. One that is gone
    // has no answer.
    stream.result.catch(() => this.append([]).catch(() => undefined));
    return stream;
  }

  /** Appends text, or token ids, without generating. */
  async append(text: string | readonly number[]): Promise<void> {
    const body = { session: await this.#number, text: promptOf(text) };
    this.#usage = await this.#client.ask("session-append", body).answer;
  }

  /** Takes the last `nTokens` tokens back, so that the text can go on differently from there. */
  async rewind(nTokens: number): Promise<void> {
    if (!Number.isInteger(nTokens) || nTokens < 0) {
      throw invalidOption("n_tokens", "a whole number of at least 0", nTokens);
    }
    const body = { session: await this.#number, n_tokens: nTokens };
    this.#usage = await this.#client.ask("session-rewind", body).answer;
  }

  /** Another session with the same text, which is not computed again. */
  clone(): Session {
    return new Session(this.#client, this.context_window, this.#stream, this.#number);
  }

  /** Frees the cache. */
  async dispose(): Promise<void> {
    if (this.#client.isClosed) return; // it went with its generator
    await this.#client.ask("session-close", { session: await this.#number }).answer;
  }

  /** For `await using`. Where a browser has no such symbol, it is a method that nobody calls. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #open(cloneOf: Promise<number> | null): Promise<number> {
    const body = { clone_of: cloneOf && (await cloneOf) };
    const answer = await this.#client.ask("session-open", body).answer;
    this.#usage = answer;
    return answer.session;
  }
}
