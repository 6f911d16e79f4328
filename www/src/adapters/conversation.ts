/** A conversation as one growing text in a session: what was said, and the model's answers. */

import type { Generator } from "../api/generator.js";
import type { Session } from "../api/session.js";
import type { GenerateOptions } from "../api/types.js";
import { type PlainMessage, type RoleTemplate, writeMessages, writePrompt } from "./prompt-template.js";

/** What one call added, and what is forgotten as a whole when the context window is full. */
interface Turn {
  text: string;
  nTokens: number;
}

/** Share of the context window that is kept free for an answer. */
const ANSWER_SHARE = 1 / 4;

export class Conversation {
  #generator: Generator;
  #session: Session;
  #template: RoleTemplate;
  /** Tokens at the beginning that are never forgotten. */
  #nInitial = 0;
  /** The turns after them, the oldest first; together with `#nInitial` they are all of the session's tokens. */
  #turns: Turn[] = [];
  /** Called when turns were forgotten. */
  onoverflow = () => {};

  private constructor(generator: Generator, session: Session, template: RoleTemplate) {
    this.#generator = generator;
    this.#session = session;
    this.#template = template;
  }

  /** @throws `QuotaExceededError` if the messages leave no room for anything else */
  static async begin(
    generator: Generator,
    template: RoleTemplate,
    messages: readonly PlainMessage[],
  ): Promise<Conversation> {
    const text = writeMessages(template, messages);
    const nTokens = await generator.tokenizer.count(text);
    const { context_window } = generator.info;
    if (nTokens >= context_window) throw quotaExceeded(nTokens, context_window);
    const conversation = new Conversation(generator, generator.session(), template);
    if (text !== "") await conversation.#session.append(text);
    conversation.#nInitial = conversation.usage;
    return conversation;
  }

  /** Tokens so far. */
  get usage(): number {
    return this.#session.context_usage;
  }

  get window(): number {
    return this.#session.context_window;
  }

  /** How many tokens a prompt takes, up to where its answer begins. */
  measure(messages: readonly PlainMessage[]): Promise<number> {
    return this.#generator.tokenizer.count(writePrompt(this.#template, messages));
  }

  /** Adds messages that the model does not answer. */
  async append(messages: readonly PlainMessage[]): Promise<void> {
    const text = writeMessages(this.#template, messages);
    await this.#makeRoom(await this.#generator.tokenizer.count(text), 0);
    await this.#appendTurn(text);
  }

  /**
   * Adds messages and the model's answer, of which it gives the pieces. If that is broken off, both are taken back.
   *
   * @throws `QuotaExceededError` if the messages do not fit even where all turns are forgotten
   */
  async *answer(messages: readonly PlainMessage[], options: GenerateOptions): AsyncGenerator<string, void, undefined> {
    const prompt = writePrompt(this.#template, messages);
    const mostNew = Math.min(options.max_new_tokens ?? this.window, Math.floor(this.window * ANSWER_SHARE));
    await this.#makeRoom(await this.#generator.tokenizer.count(prompt), Math.max(mostNew, 1));
    const before = this.usage;
    let isWhole = false;
    try {
      const stream = this.#session.generate(prompt, { ...options, stop: this.#template.stop });
      // The answer goes on behind "Assistant:" with a space, which is no part of it.
      let isAtStart = !messages.at(-1)?.prefix;
      for await (const { text } of stream) {
        const delta = isAtStart ? text.trimStart() : text;
        if (delta === "") continue;
        isAtStart = false;
        yield delta;
      }
      const { text, token_ids, finish_reason } = await stream.result;
      const end = this.#template.answer_end;
      if (finish_reason === "stop") {
        // What ended the text, such as "\nUser:", is among its tokens and must not stay there.
        await this.#session.rewind(token_ids.length);
        await this.#session.append(text + end);
      } else if (this.usage < this.window) {
        await this.#session.append(end);
      }
      this.#turns.push({ text: prompt + text + end, nTokens: this.usage - before });
      isWhole = true;
    } finally {
      if (!isWhole) await this.#takeBack(before);
    }
  }

  /** The same conversation once more, which is not computed again. */
  async clone(): Promise<Conversation> {
    const copy = new Conversation(this.#generator, this.#session.clone(), this.#template);
    await copy.#session.append([]); // until the first answer it does not know its usage
    copy.#nInitial = this.#nInitial;
    copy.#turns = [...this.#turns];
    return copy;
  }

  async dispose(): Promise<void> {
    await this.#session.dispose();
  }

  async #appendTurn(text: string): Promise<void> {
    const before = this.usage;
    await this.#session.append(text);
    this.#turns.push({ text, nTokens: this.usage - before });
  }

  /** Forgets the oldest turns until so many tokens fit, and, if it can be had, so much room for an answer. */
  async #makeRoom(nNew: number, nAnswer: number): Promise<void> {
    const nLeast = nNew + Math.min(nAnswer, 1);
    if (this.#nInitial + nLeast > this.window) throw quotaExceeded(this.usage + nNew, this.window);
    let nTokens = this.usage + nNew + nAnswer;
    const kept = [...this.#turns];
    while (nTokens > this.window) {
      const oldest = kept.shift();
      if (!oldest) break;
      nTokens -= oldest.nTokens;
    }
    if (kept.length === this.#turns.length) return;
    await this.#session.rewind(this.usage - this.#nInitial);
    this.#turns = [];
    for (const { text } of kept) await this.#appendTurn(text);
    this.onoverflow();
  }

  async #takeBack(before: number): Promise<void> {
    try {
      await this.#session.append([]); // tells how many tokens there are by now
      await this.#session.rewind(this.usage - before);
    } catch {
      // The worker has ended, and the text with it. Whoever waits for the answer hears why.
    }
  }
}

/** What the specification throws for a text that is too long: so many tokens, where so many fit. */
function quotaExceeded(requested: number, quota: number): DOMException {
  const message = `the text has ${requested} tokens, and the context window ${quota}`;
  return Object.assign(new DOMException(message, "QuotaExceededError"), { requested, quota });
}
