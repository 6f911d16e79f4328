/** `createGenerator` and what it makes. */

import type { Client, Listeners } from "./client.js";
import { type Contact, contact, orOfOriginal, progressOf } from "./contact.js";
import { checkEnvironment } from "./environment.js";
import { invalidOption, makeError, reasonOf } from "./errors.js";
import { adapterRequest, choiceOf, ownChoiceOf } from "./lora.js";
import type { AdapterChoice, AdapterSource, LoadAdapterOptions, LoraAdapterInfo } from "./lora-types.js";
import type { Kept, WireInfo, WireModel, WireResult } from "./messages.js";
import { Session } from "./session.js";
import { GenerationStream } from "./stream.js";
import type {
  CreateGeneratorOptions,
  GenerateOptions,
  GenerationResult,
  GeneratorInfo,
  GeneratorStats,
  ModelSource,
  Recipe,
  Score,
} from "./types.js";
import { checkCallback, checkSignal, generateOptionsJson, idsOf, promptOf } from "./validate.js";

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
  const made = contact("load", model, options);
  const { client, body, untilAborted } = made;
  let tellKept = (_: Kept) => {};
  const kept = new Promise<Kept>((resolve) => {
    tellKept = resolve;
  });
  const listeners: Listeners = { kept: tellKept, ...progressOf(options) };
  try {
    const load = (model: WireModel) => client.ask("load", { ...body, model }, undefined, listeners).answer;
    const all = async () => {
      const { answer: info, warning } = await orOfOriginal(body.model, options, load);
      if (warning !== null) info.warnings.push(warning);
      const generator = new Generator(made, options, info, kept);
      if (options.adapter !== undefined) {
        const { name } = await generator.loadAdapter(options.adapter);
        await generator.setAdapter(name);
      }
      return generator;
    };
    return await untilAborted(all());
  } catch (error) {
    client.close(error);
    throw error;
  }
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
  /** @internal What else in this package works with the same model. */
  readonly contact: Contact;
  #client: Client;
  /** Where adapters come from that are named by a Hugging Face id. */
  #location: Pick<CreateGeneratorOptions, "remote_host" | "remote_path_template">;

  /** @internal */
  constructor(made: Contact, options: CreateGeneratorOptions, info: WireInfo, kept: Promise<Kept>) {
    const client = made.client;
    const source = made.body.model;
    const { remote_host, remote_path_template } = options;
    this.contact = made;
    this.#client = client;
    this.#location = {
      ...(remote_host === undefined ? {} : { remote_host }),
      ...(remote_path_template === undefined ? {} : { remote_path_template }),
    };
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
    const { model, revision, device, dtype, prompt, adapter = null, ...options } = recipe;
    for (const [name, found] of Object.entries({ model, revision, device, dtype })) {
      const expected = this.info[name as "model" | "revision" | "device" | "dtype"];
      if (found !== expected) throw invalidOption(`recipe.${name}`, JSON.stringify(expected), found);
    }
    return this.generate(prompt, { ...(options as GenerateOptions), adapter });
  }

  /** Log-probability and rank of each token of a text, with the LoRA adapters that are chosen. */
  async score(text: string, options: { signal?: AbortSignal; adapter?: AdapterChoice } = {}): Promise<Score> {
    const { signal, adapter, ...rest } = options;
    for (const name of Object.keys(rest)) throw invalidOption(name, "signal or adapter", "an unknown option");
    const body = { text: string("text", text), adapter: ownChoiceOf(adapter) };
    return this.#client.ask("score", body, checkSignal(signal)).answer;
  }

  /**
   * Loads a LoRA adapter in PEFT's layout, for {@link setAdapter} and the option `adapter` of each call. It changes no
   * text by itself.
   *
   * @throws {@link CheckpointError} names what does not fit: a field of the configuration that is not plain LoRA, or a
   * tensor that is missing, superfluous or of another shape. {@link InvalidOptionError} for a name that is taken.
   * {@link NetworkError}, {@link IntegrityError}, or the platform's `AbortError`.
   */
  async loadAdapter(source: AdapterSource, options: LoadAdapterOptions = {}): Promise<LoraAdapterInfo> {
    const { body, signal } = adapterRequest(source, options, this.#location);
    const { cache, verify, custom_fetch } = this.contact.body.options;
    return this.#client.ask("adapter-load", { ...body, options: { cache, verify, custom_fetch } }, signal).answer;
  }

  /**
   * Chooses the LoRA adapters of all texts that are asked for from now on and choose none themselves: one by its name,
   * several, or `null` for none, which gives the model's own text to the bit. Takes no time; a session's text is
   * computed anew with it when it goes on.
   *
   * @throws {@link InvalidOptionError} for a name that is not loaded.
   */
  async setAdapter(adapter: AdapterChoice): Promise<void> {
    await this.#client.ask("adapter-set", { adapter: choiceOf(adapter) }).answer;
  }

  /** Gives a LoRA adapter up; texts that are being written with it go on. Returns whether there was such a one. */
  async unloadAdapter(name: string): Promise<boolean> {
    return this.#client.ask("adapter-unload", { name: string("name", name) }).answer;
  }

  /** The LoRA adapters that are loaded, in the order in which they were. */
  async listAdapters(): Promise<LoraAdapterInfo[]> {
    return this.#client.ask("adapter-list", {}).answer;
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
    const { signal, progress_callback, adapter, ...rest } = options;
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
            adapter: ownChoiceOf(adapter),
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
