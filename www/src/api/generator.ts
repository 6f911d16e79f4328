/** `createGenerator` and what it makes. */

import { workerScript } from "../files/assets.js";
import { resolve } from "../files/source.js";
import { Client, type Listeners } from "./client.js";
import { checkEnvironment } from "./environment.js";
import { Gpt2Error, invalidOption, makeError, reasonOf } from "./errors.js";
import type { Body, Kept, WireInfo, WireLoadOptions, WireModel, WireResult } from "./messages.js";
import { Session } from "./session.js";
import { startWorker } from "./start-worker.js";
import { GenerationStream } from "./stream.js";
import type {
  CreateGeneratorOptions,
  Estimate,
  GenerateOptions,
  GenerationResult,
  GeneratorInfo,
  GeneratorStats,
  ModelSource,
  Recipe,
  Score,
} from "./types.js";
import {
  checkCallback,
  checkCreateOptions,
  checkSignal,
  generateOptionsJson,
  idsOf,
  isWorker,
  promptOf,
} from "./validate.js";
import { filesFor } from "./worker-files.js";

/**
 * Loads a model and starts a worker for it.
 *
 * @throws {@link UnsupportedModelError}, {@link CheckpointError}, {@link IntegrityError}, {@link NetworkError},
 * {@link WebGPUNotAvailableError}, {@link InvalidOptionError}, {@link UnsupportedEnvironmentError}, or the
 * platform's `AbortError`.
 */
export async function createGenerator(
  model: ModelSource = "demo",
  options: CreateGeneratorOptions = {},
): Promise<Generator> {
  await checkEnvironment();
  const { client, body, untilAborted } = contact("load", model, options);
  let tellKept = (_: Kept) => {};
  const kept = new Promise<Kept>((resolve) => {
    tellKept = resolve;
  });
  const listeners: Listeners = { kept: tellKept, ...progressOf(options) };
  try {
    const load = (model: WireModel) => client.ask("load", { ...body, model }, undefined, listeners).answer;
    const { answer: info, warning } = await untilAborted(orOfOriginal(body.model, options, load));
    if (warning !== null) info.warnings.push(warning);
    return new Generator(client, body.model, info, kept);
  } catch (error) {
    client.close(error);
    throw error;
  }
}

const progressOf = ({ progress_callback: progress }: CreateGeneratorOptions) => (progress ? { progress } : {});

/**
 * What loading a model would take, before anything large is fetched. A model that cannot be loaded is no error here:
 * `problems` says why.
 *
 * @throws {@link InvalidOptionError}, {@link UnsupportedEnvironmentError}, or the platform's `AbortError`.
 */
export async function estimate(model: ModelSource = "demo", options: CreateGeneratorOptions = {}): Promise<Estimate> {
  await checkEnvironment();
  const { client, body, untilAborted } = contact("estimate", model, options);
  try {
    const ask = (model: WireModel) => client.ask("estimate", { ...body, model }).answer;
    const { answer, warning } = await untilAborted(orOfOriginal(body.model, options, ask));
    if (warning !== null) answer.problems.push(warning);
    return answer;
  } finally {
    client.close(makeError("disposed", "the estimate is made"));
  }
}

/**
 * An answer about a model or, where the model is a converted folder that is of no use here and names its original,
 * about that; `warning` says so then.
 */
async function orOfOriginal<A>(
  model: WireModel,
  options: CreateGeneratorOptions,
  ask: (model: WireModel) => Promise<A>,
): Promise<{ answer: A; warning: string | null }> {
  const asked = (model: WireModel) =>
    ask(model).then(
      (answer) => ({ answer }),
      (error: unknown) => {
        const isSent = error instanceof Gpt2Error && error.code === "use_original";
        if (!isSent) throw error;
        return error as Gpt2Error & { model: string; revision?: string };
      },
    );
  const first = await asked(model);
  if ("answer" in first) return { ...first, warning: null };
  const { revision: _, ...others } = options;
  const { model: name, revision } = first;
  const second = await asked(resolve(name, revision === undefined ? others : { ...others, revision }));
  if ("answer" in second) return { ...second, warning: first.message };
  const found = `${first.message}, which is such a folder too`;
  const details = { field: "original", expected: "a checkpoint", found: name };
  throw makeError("unsupported_model", found, details);
}

/** A worker that is about to be asked about a model. */
interface Contact {
  client: Client;
  body: Body<"load">;
  /** Passes the answer on. An abort ends the worker, as long as the answer is not there. */
  untilAborted<T>(answer: Promise<T>): Promise<T>;
}

/** Checks what the caller passed, and starts a worker or takes over the caller's. */
function contact(what: "load" | "estimate", model: ModelSource, options: CreateGeneratorOptions): Contact {
  checkCreateOptions(options);
  const { signal } = options;
  const source = resolve(model, options);
  if (signal?.aborted) throw reasonOf(signal);
  const files = filesFor(options.wasm_url);
  // An estimate has a worker of its own, which ends with it.
  const given = what === "load" && isWorker(options.worker) ? options.worker : undefined;
  const script = workerScript();
  const client = given ? new Client(given, options.fetch) : new Client(startWorker(script), options.fetch, script.href);
  const cancel = () => signal && client.abort(reasonOf(signal));
  signal?.addEventListener("abort", cancel, { once: true });
  const wire: WireLoadOptions = {
    device: options.device ?? "auto",
    cache: options.cache ?? true,
    verify: options.verify ?? true,
    dtype: options.dtype ?? "auto",
    threads: options.threads ?? "auto",
    max_batch_size: options.max_batch_size ?? null,
    files,
    custom_fetch: options.fetch !== undefined,
  };
  return {
    client,
    body: { model: source, options: wire },
    untilAborted: (answer) => answer.finally(() => signal?.removeEventListener("abort", cancel)),
  };
}

/** From text to token ids of the loaded model, and back. */
export interface GeneratorTokenizer {
  /** The token ids of a text. Special tokens that are written out in it are recognised; none is added. */
  encode(text: string): Promise<number[]>;
  /** The text of token ids, without special tokens. */
  decode(ids: readonly number[]): Promise<string>;
  /** How many tokens the text has. */
  count(text: string): Promise<number>;
}

/** A model in memory. */
export class Generator {
  readonly info: GeneratorInfo;
  readonly tokenizer: GeneratorTokenizer;
  /**
   * Resolves when nothing more is put into the cache, with whether the converted weights are there for the next visit.
   * It never rejects; what went wrong is in `info.warnings` by then. A model can write before.
   */
  readonly kept: Promise<boolean>;
  #client: Client;

  /** @internal */
  constructor(client: Client, source: WireModel, info: WireInfo, kept: Promise<Kept>) {
    this.#client = client;
    this.kept = kept.then(({ kept, warnings }) => {
      this.info.warnings.push(...warnings);
      return kept;
    });
    this.info = { model: source.name, revision: source.kind === "url" ? source.revision : "", ...info };
    this.tokenizer = {
      encode: async (text) => client.ask("encode", { text: string("text", text) }).answer,
      decode: async (ids) => client.ask("decode", { ids: idsOf("ids", ids) }).answer,
      count: async (text) => (await this.tokenizer.encode(text)).length,
    };
  }

  /**
   * Continues a prompt, given as text or as token ids. Errors come out of the stream and its `result`. Calls need not
   * wait for each other: their texts are written side by side, and each is what it would be alone.
   */
  generate(prompt: string | readonly number[], options: GenerateOptions = {}): GenerationStream {
    return this.#stream(null, prompt, options);
  }

  /** Like {@link generate}, without looking at the stream. */
  complete(prompt: string | readonly number[], options: GenerateOptions = {}): Promise<GenerationResult> {
    return this.generate(prompt, options).result;
  }

  /**
   * Writes the text of a recipe again.
   *
   * @throws {@link InvalidOptionError} if the recipe is for another model, revision, device or dtype.
   */
  replay(recipe: Recipe): GenerationStream {
    const { model, revision, device, dtype, prompt, ...options } = recipe;
    for (const [name, found] of Object.entries({ model, revision, device, dtype })) {
      const expected = this.info[name as "model" | "revision" | "device" | "dtype"];
      if (found !== expected) throw invalidOption(`recipe.${name}`, JSON.stringify(expected), found);
    }
    return this.generate(prompt, options as GenerateOptions);
  }

  /** Log-probability and rank of each token of a text. */
  async score(text: string, options: { signal?: AbortSignal } = {}): Promise<Score> {
    const { signal, ...rest } = options;
    for (const name of Object.keys(rest)) throw invalidOption(name, "signal", "an unknown option");
    return this.#client.ask("score", { text: string("text", text) }, checkSignal(signal)).answer;
  }

  /** An empty text with a KV cache of its own, which grows by prompts and what is generated from them. */
  session(): Session {
    return new Session(this.#client, this.info.context_window, this.#stream.bind(this), null);
  }

  /** What was measured since loading. */
  async stats(): Promise<GeneratorStats> {
    return this.#client.ask("stats", {}).answer;
  }

  /**
   * Ends the worker and frees all its memory, the GPU's too. Requests that are not answered yet reject. Weights that
   * are being kept (`kept`) are kept first, if that takes no longer than ten seconds.
   */
  async dispose(): Promise<void> {
    await this.#client.dispose(makeError("disposed", "the generator is disposed"));
  }

  /** For `await using`. Where a browser has no such symbol, it is a method that nobody calls. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  #stream(
    session: Promise<number> | null,
    prompt: string | readonly number[],
    options: GenerateOptions,
    done?: (answer: WireResult) => void,
  ): GenerationStream {
    const controller = new AbortController();
    const { signal, progress_callback, ...rest } = options;
    let id: number | undefined;
    let isInterrupted = false;
    return new GenerationStream((push) => {
      const run = async (): Promise<GenerationResult> => {
        const given = promptOf(prompt); // a copy, since the caller may change the list later
        const caller = checkSignal(signal);
        if (caller?.aborted) throw reasonOf(caller);
        const forward = () => controller.abort(caller?.reason);
        signal?.addEventListener("abort", forward, { once: true });
        try {
          const body = {
            session: session && (await session),
            prompt: given,
            options: generateOptionsJson(rest),
          };
          const pending = this.#client.ask("generate", body, controller.signal, {
            chunk: push,
            prompt: checkCallback(progress_callback),
          });
          id = pending.id;
          if (isInterrupted) this.#client.interrupt(id);
          const answer = await pending.answer;
          done?.(answer);
          return this.#result(answer, given);
        } finally {
          signal?.removeEventListener("abort", forward);
        }
      };
      return {
        result: run(),
        interrupt: () => {
          isInterrupted = true;
          if (id !== undefined) this.#client.interrupt(id);
        },
        cancel: () => controller.abort(),
      };
    });
  }

  #result(
    { options, context_usage: _, cache_bytes: __, prompt: whole, info, sequences, ...answer }: WireResult,
    given: string | number[],
  ): GenerationResult {
    Object.assign(this.info, info); // if the device was lost meanwhile, something else runs the model now
    const { model, revision, device, dtype } = this.info;
    const recipe: Recipe = { model, revision, device, dtype, prompt: whole ?? given, ...options };
    const own = (seed: number | string): Recipe => ({ ...recipe, num_return_sequences: 1, seed });
    return { ...answer, sequences: sequences.map((text) => ({ ...text, recipe: own(text.seed) })), recipe };
  }
}

function string(name: string, value: unknown): string {
  if (typeof value !== "string") throw invalidOption(name, "a string", value);
  return value;
}
