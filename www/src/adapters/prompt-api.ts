/**
 * `LanguageModel` as in the Prompt API (https://webmachinelearning.github.io/prompt-api), answered by a GPT-2 in the
 * page. GPT-2 is no chat model: a template writes the roles as a script, and the model goes on with it. What the
 * specification has an error for throws that error; failures to load throw this package's own.
 */

import { abortError } from "../api/errors.js";
import { isCached } from "../api/index.js";
import { Conversation } from "./conversation.js";
import { eitherSignal } from "./either-signal.js";
import {
  answerOptions,
  CreateMonitor,
  checkAbilities,
  type Gpt2Options,
  type LanguageModelCreateCoreOptions,
  type LanguageModelCreateOptions,
  type LanguageModelParams,
  type LanguageModelSamplingMode,
  PARAMS,
  progressOf,
  type Sampling,
  samplingOf,
} from "./language-model-options.js";
import { canonical, DEFAULT_TEMPLATE, type LanguageModelPrompt, notSupported } from "./prompt-template.js";
import { type Share, share, stateOf, unlessAborted } from "./shared-generator.js";

export {
  CreateMonitor,
  type Gpt2Options,
  type LanguageModelCreateCoreOptions,
  type LanguageModelCreateOptions,
  type LanguageModelExpected,
  type LanguageModelParams,
  type LanguageModelSamplingMode,
  SAMPLING_MODES,
} from "./language-model-options.js";
export {
  DEFAULT_TEMPLATE,
  type LanguageModelMessage,
  type LanguageModelMessageContent,
  type LanguageModelMessageRole,
  type LanguageModelPrompt,
  type RoleTemplate,
} from "./prompt-template.js";

/** Whether a model can be had, and whether something must be fetched for it. */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";

/** Options of a prompt. */
export interface LanguageModelPromptOptions {
  signal?: AbortSignal;
  /** Not supported: answers cannot be made to have a form. */
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
}

/** Options of `append` and `clone`. */
export interface LanguageModelSignalOptions {
  signal?: AbortSignal;
}

/** What a language model is made of. */
interface Parts {
  conversation: Conversation;
  held: Share;
  sampling: Sampling;
  own: Gpt2Options;
}

/** A conversation with a model. What is asked of it is done in order, one after the other. */
export class LanguageModel extends EventTarget {
  /** Which GPT-2 answers where `create` is not told in its option `gpt2`. */
  static defaults: Gpt2Options = {};

  #parts: Parts;
  /** Aborted with the model's end. */
  #end = new AbortController();
  /** Settled when nothing is being done any more. Never rejects. */
  #idle: Promise<void> = Promise.resolve();
  #overflowHandler: ((this: LanguageModel, event: Event) => unknown) | null = null;

  /** @internal */
  constructor(parts: Parts) {
    super();
    this.#parts = parts;
    parts.conversation.onoverflow = () => this.dispatchEvent(new Event("contextoverflow"));
  }

  /** Whether `create` with these options would work, and whether it would fetch anything first. */
  static async availability(options: LanguageModelCreateCoreOptions = {}): Promise<Availability> {
    samplingOf(options);
    try {
      checkAbilities(options);
    } catch (error) {
      if (error instanceof DOMException && error.name === "NotSupportedError") return "unavailable";
      throw error;
    }
    if (typeof WebAssembly !== "object" || typeof Worker !== "function") return "unavailable";
    const { generator, model = "demo", load = {} } = { ...LanguageModel.defaults, ...options.gpt2 };
    if (generator) return "available";
    const state = stateOf({ model, options: load });
    if (state) return state;
    if (typeof model === "object" && "files" in model) return "available";
    return (await isCached(model, load)) ? "available" : "downloadable";
  }

  /** Loads a model if no other has loaded it, and begins a conversation. */
  static async create(options: LanguageModelCreateOptions = {}): Promise<LanguageModel> {
    const { signal, initialPrompts } = options;
    signal?.throwIfAborted();
    const sampling = samplingOf(options);
    checkAbilities(options);
    const initial = initialPrompts ? canonical(initialPrompts, true) : [];
    const own = { ...LanguageModel.defaults, ...options.gpt2 };
    const monitor = new CreateMonitor();
    options.monitor?.(monitor);
    const held = await take(own, signal, progressOf(monitor));
    const begun = Conversation.begin(held.generator, own.template ?? DEFAULT_TEMPLATE, initial);
    try {
      const model = new LanguageModel({ conversation: await unlessAborted(begun, signal), held, sampling, own });
      const end = () => model.#destroy(signal?.reason);
      signal?.addEventListener("abort", end, { once: true, signal: model.#end.signal });
      return model;
    } catch (error) {
      // A conversation that an abort came before is of no use to anybody; one that did not begin has told why.
      void begun.then((conversation) => conversation.dispose()).catch(() => undefined);
      await held.release();
      throw error;
    }
  }

  /** Defaults and limits of `topK` and `temperature`. */
  static async params(): Promise<LanguageModelParams> {
    return { ...PARAMS };
  }

  /** Tokens of the conversation so far. */
  get contextUsage(): number {
    return this.#parts.conversation.usage;
  }

  /** The most tokens that it can have. */
  get contextWindow(): number {
    return this.#parts.conversation.window;
  }

  /** From how many of the most likely tokens it draws. */
  get topK(): number {
    return this.#parts.sampling.topK;
  }

  /** What the logits are divided by before a token is drawn. */
  get temperature(): number {
    return this.#parts.sampling.temperature;
  }

  /** `undefined` where the model was created with `topK` or `temperature`. */
  get samplingMode(): LanguageModelSamplingMode | undefined {
    return this.#parts.sampling.mode;
  }

  /** Called when the oldest turns were forgotten, so that a new one fits. */
  get oncontextoverflow(): ((this: LanguageModel, event: Event) => unknown) | null {
    return this.#overflowHandler;
  }

  /** The event can also be listened to. */
  set oncontextoverflow(handler: ((this: LanguageModel, event: Event) => unknown) | null) {
    if (this.#overflowHandler) this.removeEventListener("contextoverflow", this.#overflowHandler);
    this.#overflowHandler = typeof handler === "function" ? handler : null;
    if (this.#overflowHandler) this.addEventListener("contextoverflow", this.#overflowHandler);
  }

  /** The model's answer. Where that is aborted, the conversation is as before. */
  async prompt(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<string> {
    let text = "";
    for await (const delta of this.#answer(input, options)) text += delta;
    return text;
  }

  /** The model's answer in pieces, as they are written. Cancelling the stream is an abort. */
  promptStreaming(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): ReadableStream<string> {
    const cancelled = new AbortController();
    const signal = eitherSignal(options.signal, cancelled.signal);
    const write = async (stream: ReadableStreamDefaultController<string>) => {
      try {
        for await (const delta of this.#answer(input, { ...options, signal })) stream.enqueue(delta);
        stream.close();
      } catch (error) {
        stream.error(error); // does nothing where the stream was cancelled
      }
    };
    return new ReadableStream<string>({
      start: (stream) => void write(stream),
      cancel: (reason) => cancelled.abort(reason),
    });
  }

  /** Adds messages that are not answered. */
  async append(input: LanguageModelPrompt, options: LanguageModelSignalOptions = {}): Promise<undefined> {
    await this.#inTurn(options.signal, async () => {
      await this.#parts.conversation.append(canonical(input, this.contextUsage === 0));
    });
  }

  /** How many tokens a prompt takes. */
  async measureContextUsage(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<number> {
    checkConstraint(options);
    const signal = this.#signalWith(options.signal);
    signal.throwIfAborted();
    return unlessAborted(this.#parts.conversation.measure(canonical(input, true)), signal);
  }

  /** A model with the same conversation, which goes its own way from here. */
  async clone(options: LanguageModelSignalOptions = {}): Promise<LanguageModel> {
    return this.#inTurn(options.signal, async () => {
      const { conversation, held, sampling, own } = this.#parts;
      return new LanguageModel({ conversation: await conversation.clone(), held: held.again(), sampling, own });
    });
  }

  /** Ends everything that is under way and frees the conversation; with the last one of a source, its generator. */
  destroy(): undefined {
    this.#destroy(abortError());
  }

  #destroy(reason: unknown): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort(reason);
    const { conversation, held } = this.#parts;
    void this.#idle.then(() => conversation.dispose()).then(() => held.release());
  }

  #signalWith(signal: AbortSignal | undefined): AbortSignal {
    return eitherSignal(signal, this.#end.signal);
  }

  async *#answer(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions,
  ): AsyncGenerator<string, void, undefined> {
    checkConstraint(options);
    const signal = this.#signalWith(options.signal);
    const free = await this.#turn(signal);
    try {
      const { conversation, sampling, own } = this.#parts;
      const messages = canonical(input, this.contextUsage === 0);
      yield* conversation.answer(messages, { ...answerOptions(sampling, own), signal });
    } catch (error) {
      signal.throwIfAborted(); // with the caller's own reason
      throw error;
    } finally {
      free();
    }
  }

  async #inTurn<T>(callerSignal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    const free = await this.#turn(this.#signalWith(callerSignal));
    try {
      return await run();
    } finally {
      free();
    }
  }

  /** Waits until all that was asked before is done. → what lets the next one go on */
  async #turn(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const before = this.#idle;
    let free = () => {};
    this.#idle = new Promise((resolve) => {
      free = resolve;
    });
    try {
      await unlessAborted(before, signal);
    } catch (error) {
      void before.then(free);
      throw error;
    }
    return free;
  }
}

/** A share of the generator that the options name, which is loaded if it must be. */
async function take(own: Gpt2Options, signal: AbortSignal | undefined, tell: (loaded: number) => void): Promise<Share> {
  const { generator, model = "demo", load = {} } = own;
  tell(0);
  if (generator) {
    const held: Share = { generator, again: () => held, release: async () => {} };
    tell(1);
    return held;
  }
  const held = await share({ model, options: load }, signal, ({ status, progress }) => {
    if (status === "progress_total" && progress !== null) tell(progress / 100);
  });
  tell(1);
  return held;
}

function checkConstraint({ responseConstraint, omitResponseConstraintInput }: LanguageModelPromptOptions): void {
  if (responseConstraint) throw notSupported("responseConstraint: expected none, found one");
  if (omitResponseConstraintInput) throw new TypeError("omitResponseConstraintInput: expected a responseConstraint");
}
