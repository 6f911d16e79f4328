/**
 * Another model beside the one in use: it reads the same text, and the colours tell which of them was more surprised.
 */

import { isAbort } from "../../api/errors.js";
import type { Device, DType, Generator } from "../../api/index.js";
import { createGenerator, estimate } from "../../api/index.js";
import { bytesText, figureText, progressText } from "../../elements/figures.js";
import { differences, type Piece, piecesOf, sumOf } from "../../elements/pieces.js";
import { adapterOn, followAdapters } from "../adapters.js";
import { retry, showError } from "../alert.js";
import { announce, byId } from "../dom.js";

const form = byId("compare-form", HTMLFormElement);
const model = byId("compare-model", HTMLInputElement);
const dtype = byId("compare-dtype", HTMLSelectElement);
const button = byId("compare", HTMLButtonElement);
const endButton = byId("compare-end", HTMLButtonElement);
const adapterButton = byId("compare-adapter", HTMLButtonElement);
const told = byId("compare-told", HTMLParagraphElement);

/** What is fetched without asking once more, in bytes. */
const SMALL_BYTES = 8e6;

/** Reads a text as whatever stands beside the model in use does. */
type Reader = (text: string, signal: AbortSignal) => Promise<Piece[]>;

/** What stands beside the model in use: another model, or the same without its adapter. */
export class Comparison {
  /** Called with what it made of the text; with null when the comparison has ended. */
  readonly #found: (pieces: Piece[] | null) => void;
  #other: Generator | null = null;
  #own: Generator | null = null;
  #reader: Reader | null = null;
  #name = "";
  #text = "";
  #run = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** The model and its size, if a further press fetches it. */
  #offered = "";

  constructor(found: (pieces: Piece[] | null) => void) {
    this.#found = found;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#begin();
    });
    for (const control of [model, dtype]) control.addEventListener("input", () => this.#withdraw());
    endButton.addEventListener("click", () => void this.end());
    adapterButton.addEventListener("click", () => void this.#withoutAdapter());
    followAdapters(() => {
      adapterButton.hidden = adapterOn() === null;
      if (adapterOn() === null && !this.#other) void this.end();
    });
  }

  /** A model is in use: with nothing else chosen, the same one in another format is the other. */
  attach(generator: Generator): void {
    const { info } = generator;
    this.#own = generator;
    if (model.value === "") model.value = info.model;
    dtype.value = info.dtype === "q4" ? "q8" : "q4";
  }

  /** The text that both read, from now on. */
  read(text: string): void {
    this.#text = text;
    if (this.#reader) this.#score();
  }

  /** Says how the two differ. */
  tell(ours: readonly Piece[], theirs: readonly Piece[]): void {
    const [a, b] = [sumOf(ours), sumOf(theirs)];
    if (!a || !b) return;
    const all = differences(ours, theirs).map((bits, index) => ({ bits: bits ?? 0, index }));
    const furthest = all.reduce((most, one) => (Math.abs(one.bits) > Math.abs(most.bits) ? one : most));
    const better = b.bits < a.bits ? "less" : "more";
    told.textContent =
      `${this.#name} is ${better} surprised: ${b.bitsPerByte.toFixed(3)} bits per byte against ` +
      `${a.bitsPerByte.toFixed(3)}. They differ most at “${ours[furthest.index]?.text.trim()}”, by ` +
      `${figureText(Math.abs(furthest.bits))} bits.`;
    announce(told.textContent);
  }

  /** Ends the comparison and frees the other model. */
  async end(): Promise<void> {
    this.#run.abort();
    await this.#running;
    const [other, reader] = [this.#other, this.#reader];
    this.#other = this.#reader = null;
    this.#withdraw();
    endButton.hidden = true;
    told.textContent = "";
    if (reader) this.#found(null);
    await other?.dispose();
  }

  async #withoutAdapter(): Promise<void> {
    await this.end();
    const [own, name] = [this.#own, adapterOn()];
    if (!own || name === null) return;
    this.#name = `The model without ${name}`;
    this.#reader = async (text, signal) => piecesOf(own, await own.score(text, { signal, adapter: null }));
    endButton.hidden = false;
    this.#score();
  }

  #withdraw(): void {
    this.#offered = "";
    button.textContent = "Compare";
  }

  #begin(): void {
    this.#run.abort();
    const run = new AbortController();
    this.#run = run;
    this.#running = this.#running.then(async () => {
      try {
        await this.#load(run.signal);
      } catch (error) {
        if (run.signal.aborted || isAbort(error)) return;
        told.textContent = "";
        showError(
          error,
          retry(() => this.#begin()),
        );
      } finally {
        button.disabled = false;
      }
    });
  }

  async #load(signal: AbortSignal): Promise<void> {
    const name = model.value.trim() || "demo";
    const options = { device: byId("device", HTMLSelectElement).value as Device, dtype: dtype.value as DType, signal };
    const key = `${name} ${options.dtype}`;
    if (this.#offered !== key) {
      told.textContent = "Looking…";
      const it = await estimate(name, options);
      if (it.download_bytes > SMALL_BYTES) {
        this.#offered = key;
        const costs = `${bytesText(it.download_bytes)} to fetch, and takes ${bytesText(it.device_bytes)} of memory`;
        told.textContent = `${name} is ${costs} beside the other.`;
        button.textContent = `Fetch ${bytesText(it.download_bytes)} and compare`;
        announce(told.textContent);
        return;
      }
    }
    button.disabled = true;
    endButton.hidden = false;
    const before = this.#other;
    this.#other = this.#reader = null;
    await before?.dispose();
    told.textContent = `Loading ${key}…`;
    const other = await createGenerator(name, {
      ...options,
      progress_callback: (event) => {
        if (event.status === "progress_total") told.textContent = progressText(event);
      },
    });
    this.#other = other;
    this.#reader = async (text, signal) => piecesOf(other, await other.score(text, { signal }));
    this.#name = `${name} in ${other.info.dtype}`;
    this.#withdraw();
    await this.#read(this.#reader, signal);
  }

  #score(): void {
    const reader = this.#reader;
    if (!reader) return;
    this.#run.abort();
    const run = new AbortController();
    this.#run = run;
    this.#running = this.#running.then(async () => {
      try {
        await this.#read(reader, run.signal);
      } catch (error) {
        if (!isAbort(error)) showError(error);
      }
    });
  }

  async #read(reader: Reader, signal: AbortSignal): Promise<void> {
    told.textContent = "Reading…";
    const text = this.#text;
    const pieces = await reader(text, signal);
    if (!signal.aborted && text === this.#text) this.#found(pieces);
  }
}
