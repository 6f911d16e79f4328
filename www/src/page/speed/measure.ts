/** Measures a model on devices and in formats, through the same interface that every page uses. */

import type { Device, DType, GenerateOptions, Generator, ModelSource, Percentiles } from "../../api/index.js";
import { createGenerator, estimate } from "../../api/index.js";
import { bytesText } from "../../elements/figures.js";

/** What a measurement runs on. */
export interface Configuration {
  device: Exclude<Device, "auto">;
  dtype: Exclude<DType, "auto">;
}

/** How fast something is, by how many tokens stand before it or are read. */
export interface SpeedAt {
  n_tokens: number;
  tokens_per_second: number;
}

/** What was measured of one configuration. */
export interface Measured extends Configuration {
  adapter: string | null;
  threads: number;
  weight_bytes: number;
  /** From the call to the ready model, whose files were on this machine. */
  load_ms: number;
  /** From the call to the first piece of text in the page, after 32 tokens. */
  first_token_ms: number;
  /** Reading prompts of so many tokens. */
  prefill: SpeedAt[];
  /** Writing after so many tokens. */
  decode: SpeedAt[];
  /** From token to token, at all lengths together. */
  token_ms: Percentiles;
  /**
   * The largest difference of a token's log-probability from the CPU's in fp32, in nats; null: that was not measured.
   */
  difference: number | null;
}

/** A configuration that could not be measured, and why. */
export interface Skipped extends Configuration {
  reason: string;
}

/** How a measurement goes on. */
export interface MeasureEvents {
  /** A step begins: so many of so many are done. */
  step(text: string, nDone: number, nSteps: number): void;
  measured(result: Measured): void;
  skipped(result: Skipped): void;
}

/** What is fetched without asking, in bytes. */
const SMALL_BYTES = 8e6;
const N_NEW = 32;
/** So many samples are taken of each figure, or fewer where they take longer than this together. */
const N_SAMPLES = 3;
const MOST_MS = 5000;
const FIRST_LENGTH = 32;
const TEXT =
  "The old king had three daughters, and the youngest was so beautiful that the sun himself, who has seen so much, " +
  "wondered whenever he shone on her face. Close by the castle lay a great dark forest, and in the forest, " +
  "under an old lime tree, was a well; and when the day was very warm, the child went out and sat down by the " +
  "side of the cool water. ";

/** How a configuration is called. */
export function configurationText({ device, dtype }: Configuration): string {
  return `${device === "webgpu" ? "GPU" : "CPU"} ${dtype}`;
}

/** The median of some numbers. */
function median(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** The median of samples. */
async function sampled(take: () => Promise<number>): Promise<number> {
  const samples: number[] = [];
  const beganMs = performance.now();
  do samples.push(await take());
  while (samples.length < N_SAMPLES && performance.now() - beganMs < MOST_MS);
  return median(samples);
}

/** Lengths that show how the speed changes: short, an eighth and half of the window, and nearly all of it. */
function lengthsFor(nCtx: number): number[] {
  const all = [FIRST_LENGTH, nCtx >> 3, nCtx >> 1, nCtx - 2 * N_NEW];
  return [...new Set(all)].filter((n) => n >= FIRST_LENGTH && n + N_NEW < nCtx).sort((a, b) => a - b);
}

/** Tokens of a text, as many as asked for. */
async function someIds({ tokenizer }: Generator, n: number): Promise<number[]> {
  const ids = await tokenizer.encode(TEXT);
  return Array.from({ length: n }, (_, i) => ids[i % ids.length] ?? 0);
}

/** How far the log-probabilities of two readings of a text are apart at most. */
function furthest(ours: readonly number[], theirs: readonly number[]): number {
  return Math.max(...ours.map((logprob, i) => Math.abs(logprob - (theirs[i] ?? Number.NaN))));
}

/** Measures configurations of one model, one after the other. */
export class Measurement {
  readonly #source: ModelSource;
  readonly #signal: AbortSignal;
  readonly #events: MeasureEvents;
  #nDone = 0;
  #nSteps = 0;
  /** Log-probabilities of a text on the CPU in fp32. */
  #reference: number[] | null = null;

  constructor(source: ModelSource, signal: AbortSignal, events: MeasureEvents) {
    [this.#source, this.#signal, this.#events] = [source, signal, events];
  }

  /** Rejects with `AbortError` when the signal is aborted. One that cannot be measured is told of and left out. */
  async run(configurations: readonly Configuration[]): Promise<void> {
    // The reference comes first, so that the others can be held against it.
    const isReference = ({ device, dtype }: Configuration) => device === "wasm" && dtype === "fp32";
    const sorted = [...configurations.filter(isReference), ...configurations.filter((one) => !isReference(one))];
    this.#nSteps = sorted.length * 4;
    for (const [index, configuration] of sorted.entries()) {
      this.#nDone = index * 4;
      try {
        await this.#measure(configuration);
      } catch (error) {
        this.#signal.throwIfAborted();
        this.#events.skipped({ ...configuration, reason: error instanceof Error ? error.message : String(error) });
      }
    }
  }

  #step(configuration: Configuration, text: string): void {
    this.#events.step(`${configurationText(configuration)}: ${text}`, this.#nDone++, this.#nSteps);
  }

  async #measure(configuration: Configuration): Promise<void> {
    const { device, dtype } = configuration;
    const signal = this.#signal;
    this.#step(configuration, "loading");
    const { download_bytes } = await estimate(this.#source, { device, dtype, signal });
    if (download_bytes > SMALL_BYTES)
      throw new Error(`${bytesText(download_bytes)} are not on this machine: load it once in Models`);
    const beganMs = performance.now();
    const generator = await createGenerator(this.#source, { device, dtype, signal });
    try {
      const loadMs = performance.now() - beganMs;
      const { adapter, threads, weight_bytes } = generator.info;
      this.#step(configuration, "reading");
      const lengths = lengthsFor(generator.info.context_window);
      const firstTokenMs = await this.#firstToken(generator);
      const prefill: SpeedAt[] = [];
      for (const n of lengths) prefill.push({ n_tokens: n, tokens_per_second: await this.#prefill(generator, n) });
      this.#step(configuration, "writing");
      const decode: SpeedAt[] = [];
      for (const n of lengths) decode.push({ n_tokens: n, tokens_per_second: await this.#decode(generator, n) });
      const { token_ms } = await generator.stats();
      this.#step(configuration, "comparing");
      const { tokens } = await generator.score(TEXT, { signal });
      const logprobs = tokens.flatMap(({ logprob }) => logprob ?? []);
      if (device === "wasm" && dtype === "fp32") this.#reference = logprobs;
      const difference = this.#reference && furthest(logprobs, this.#reference);
      const result = {
        adapter,
        threads,
        weight_bytes,
        load_ms: loadMs,
        first_token_ms: firstTokenMs,
        prefill,
        decode,
        token_ms,
        difference,
      };
      this.#events.measured({ ...configuration, ...result });
    } finally {
      await generator.dispose();
    }
  }

  #options(): GenerateOptions {
    return { do_sample: false, eos_token_id: null, prompt_lookup_num_tokens: 0, signal: this.#signal };
  }

  async #firstToken(generator: Generator): Promise<number> {
    const ids = await someIds(generator, FIRST_LENGTH);
    const take = async (): Promise<number> => {
      const beganMs = performance.now();
      const stream = generator.generate(ids, { ...this.#options(), max_new_tokens: 1, prefix_reuse: false });
      let firstMs = Number.NaN;
      for await (const _ of stream) firstMs = performance.now() - beganMs;
      return firstMs;
    };
    await take(); // warms up
    return sampled(take);
  }

  async #prefill(generator: Generator, n: number): Promise<number> {
    const ids = await someIds(generator, n);
    const options = { ...this.#options(), max_new_tokens: 1, prefix_reuse: false };
    return sampled(async () => (await generator.complete(ids, options)).timings.prompt_per_second);
  }

  async #decode(generator: Generator, n: number): Promise<number> {
    const ids = await someIds(generator, n);
    const options = { ...this.#options(), max_new_tokens: N_NEW };
    return sampled(async () => (await generator.complete(ids, options)).timings.predicted_per_second);
  }
}
