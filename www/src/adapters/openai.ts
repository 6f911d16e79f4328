/**
 * `completions.create(…)` in the shape of OpenAI's client, for pages that come from there: the same bodies and the same
 * objects, from a model on the visitor's own machine. What cannot be done is an `InvalidOptionError` that names it.
 */

import { invalidOption, isAbort } from "../api/errors.js";
import { createGenerator, Generator } from "../api/generator.js";
import type { CreateGeneratorOptions, ModelSource } from "../api/types.js";
import { VERSION } from "../api/version.js";
import { eitherSignal } from "./either-signal.js";
import { joinLogprobs, LogprobWriter, scoredLogprobs } from "./openai-logprobs.js";
import { type CompletionRequest, readRequest } from "./openai-request.js";
import type {
  Completion,
  CompletionChoice,
  CompletionChunk,
  CompletionCreateParams,
  CompletionUsage,
  FinishReason,
} from "./openai-types.js";
import { completeAll, type Job, seedOf } from "./sequences.js";

export type * from "./openai-types.js";

/** What {@link OpenAI} writes with: a loaded generator, or a model that is loaded at the first call. */
export type OpenAIOptions = { generator: Generator } | ({ model?: ModelSource } & CreateGeneratorOptions);

/** Options of one call. */
export interface RequestOptions {
  /** Cancels: the answer, or the loop over it, rejects with `AbortError`. */
  signal?: AbortSignal;
}

/** A part of one text; the last one has a reason. */
type Piece = CompletionChoice<FinishReason | null>;

/** What all parts of an answer begin with. */
type Head = Omit<CompletionChunk, "choices" | "usage">;

/** `create` of {@link OpenAI.completions}. */
export interface CreateCompletion {
  (body: CompletionCreateParams & { stream?: false | null }, options?: RequestOptions): Promise<Completion>;
  (body: CompletionCreateParams & { stream: true }, options?: RequestOptions): Promise<CompletionStream>;
  (body: CompletionCreateParams, options?: RequestOptions): Promise<Completion | CompletionStream>;
}

/** The client. */
export class OpenAI {
  readonly completions: { create: CreateCompletion };
  #options: OpenAIOptions;
  #generator: Promise<Generator> | undefined;

  constructor(options: OpenAIOptions = {}) {
    if ("generator" in options && !(options.generator instanceof Generator)) {
      throw invalidOption("generator", "what createGenerator gives", options.generator);
    }
    this.#options = options;
    this.completions = { create: this.#create.bind(this) as CreateCompletion };
  }

  /** The generator behind it, which is loaded if it is not yet. A load that failed is tried again at the next call. */
  generator(): Promise<Generator> {
    this.#generator ??= this.#load().catch((error: unknown) => {
      this.#generator = undefined;
      throw error;
    });
    return this.#generator;
  }

  /** Ends the worker and frees its memory. */
  async dispose(): Promise<void> {
    if (this.#generator) await (await this.#generator).dispose();
  }

  async #load(): Promise<Generator> {
    if ("generator" in this.#options) return this.#options.generator;
    const { model = "demo", ...options } = this.#options;
    return createGenerator(model, options);
  }

  async #create(body: CompletionCreateParams, options: RequestOptions = {}): Promise<Completion | CompletionStream> {
    const request = readRequest(body, options);
    const generator = await this.generator();
    const { info } = generator;
    const model = body.model ?? info.model;
    if (model !== info.model) throw invalidOption("model", JSON.stringify(info.model), model);
    const head: Head = {
      id: `cmpl-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model,
      system_fingerprint: `gpt2-web-${VERSION}-${info.device}-${info.dtype}`,
    };
    if (body.stream) return new CompletionStream(generator, request, head);
    const choices: CompletionChoice[] = [];
    const usage = await answer(generator, request, request.signal, ({ index, text, logprobs, finish_reason }) => {
      const before = choices[index];
      choices[index] = {
        index,
        text: (before?.text ?? "") + text,
        logprobs: joinLogprobs(before?.logprobs ?? null, logprobs),
        finish_reason: finish_reason ?? "length",
      };
    });
    return { ...head, choices, usage };
  }
}

/**
 * A streamed answer, which begins when it is read. It can be read once; leaving the loop early cancels it, and so does
 * `controller.abort()`, which ends the loop without an error, as in OpenAI's client.
 */
export class CompletionStream implements AsyncIterable<CompletionChunk> {
  readonly controller = new AbortController();
  #generator: Generator;
  #request: CompletionRequest;
  #head: Head;
  #isRead = false;

  /** @internal */
  constructor(generator: Generator, request: CompletionRequest, head: Head) {
    this.#generator = generator;
    this.#request = request;
    this.#head = head;
  }

  /** The chunks as they are written. To break out of the loop ends the request. */
  async *[Symbol.asyncIterator](): AsyncGenerator<CompletionChunk, void, undefined> {
    if (this.#isRead) throw new Error("a stream can be read once");
    this.#isRead = true;
    const reader = this.#chunks().getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (error) {
      if (!isAbort(error) || !this.controller.signal.aborted) throw error;
    } finally {
      this.controller.abort();
    }
  }

  #chunks(): ReadableStream<CompletionChunk> {
    const { signal, includeUsage } = this.#request;
    const either = eitherSignal(signal, this.controller.signal);
    return new ReadableStream<CompletionChunk>({
      start: (stream) => {
        const tell = (piece: Piece) => stream.enqueue({ ...this.#head, choices: [piece] });
        answer(this.#generator, this.#request, either, tell).then(
          (usage) => {
            if (includeUsage) stream.enqueue({ ...this.#head, choices: [], usage });
            stream.close();
          },
          (error: unknown) => stream.error(error),
        );
      },
    });
  }
}

/** Writes all texts of a request. `tell` gets the pieces of each text in order. */
async function answer(
  generator: Generator,
  request: CompletionRequest,
  signal: AbortSignal | undefined,
  tell: (piece: Piece) => void,
): Promise<CompletionUsage> {
  const { prompts, n, options, logprobs } = request;
  const jobs: Job[] = [];
  let promptTokens = 0;
  for (const prompt of prompts) {
    const text = typeof prompt === "string" ? prompt : await generator.tokenizer.decode(prompt);
    promptTokens += typeof prompt === "string" ? await generator.tokenizer.count(prompt) : prompt.length;
    const echoed = request.echo ? await echo(generator, text, logprobs, signal) : null;
    for (let i = 0; i < n; i++) {
      const index = jobs.length;
      const seed = seedOf(options.seed, i);
      const writer = new LogprobWriter(generator.tokenizer, text.length);
      jobs.push({
        prompt,
        options: { ...options, ...(seed !== undefined && { seed }) },
        onChunk: async (chunk) =>
          tell({ index, text: chunk.text, logprobs: await writer.write(chunk), finish_reason: null }),
      });
      if (echoed) tell({ index, ...echoed, finish_reason: null });
    }
  }
  const results = request.isWritten ? await completeAll(generator, jobs, signal) : [];
  let completionTokens = 0;
  for (const index of jobs.keys()) {
    const result = results[index];
    completionTokens += result?.usage.completion_tokens ?? 0;
    const reason = result?.finish_reason === "stop" ? "stop" : "length";
    tell({ index, text: "", logprobs: null, finish_reason: reason });
  }
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/** A prompt as the beginning of its own answer. */
async function echo(
  generator: Generator,
  text: string,
  logprobs: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Pick<Piece, "text" | "logprobs">> {
  if (logprobs === undefined) return { text, logprobs: null };
  const score = await generator.score(text, signal ? { signal } : {});
  return { text, logprobs: scoredLogprobs(score, logprobs) };
}
