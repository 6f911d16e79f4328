/** `<gpt2-generator>`. */

import { isAbort } from "../api/errors.js";
import type { GenerateOptions, GenerationResult, GenerationStream, Generator, ProgressEvent } from "../api/index.js";
import { choiceOf, LOAD_ATTRIBUTES, optionsOf } from "./attributes.js";
import { ElementBase } from "./element-base.js";
import { explain, isDeviceLost } from "./explain.js";
import { countText, progressText, promptText, rateText } from "./figures.js";
import { buildView } from "./generator-view.js";
import { GrowingText } from "./growing-text.js";
import { acquire, discard, Lease, release } from "./shared.js";

/** Where a `<gpt2-generator>` stands; also its `state` attribute, for style sheets. */
export type GeneratorState = "idle" | "loading" | "ready" | "generating" | "failed";

/**
 * A prompt, a model, and the text that it writes.
 *
 * ```html
 * <gpt2-generator model="demo" prompt="Once upon a time" max-new-tokens="80" temperature="0.8"></gpt2-generator>
 * ```
 *
 * Attributes hold the options of `generate`, with hyphens. The property `options` holds what they cannot say, and wins
 * over them. All events bubble and are composed.
 *
 * Keys: Ctrl or Cmd with Enter in the field generates, Esc stops. The model is shared with the other elements of the
 * page that ask for the same, and is disposed of when the last of them leaves the page.
 *
 * @tagname gpt2-generator
 * @attr {string} model - "demo" (the default), a Hugging Face id, or the URL of a folder
 * @attr {"auto"|"webgpu"|"wasm"} device - what the model runs on
 * @attr {"auto"|"fp32"|"fp16"|"q8"|"q4"} dtype - the format of the weights
 * @attr {string} revision - the branch, tag or commit of a model on a hub
 * @attr {boolean} preload - loads at once, not at first use
 * @attr {string} prompt - the first text of the field
 * @attr {string} placeholder - what the field shows while it is empty
 * @attr {number} max-new-tokens - writes so many tokens at most
 * @attr {number} temperature - low keeps to the expected, 0 is greedy
 * @attr {number} top-k - draws from so many of the likeliest tokens; 0 is off
 * @attr {number} top-p - draws from the likeliest tokens that together reach this probability
 * @attr {number} min-p - drops tokens less likely than this times the best
 * @attr {number} repetition-penalty - makes tokens of the text less likely; 1 is off
 * @attr {number} presence-penalty - once for each token that was written; 0 is off
 * @attr {number} frequency-penalty - again for every time it was written; 0 is off
 * @attr {number} no-repeat-ngram-size - no run of so many tokens comes twice; 0 is off
 * @attr {string} seed - a whole number of up to 64 bits: the same text again
 * @attr {string} stop - ends before this text; `\n` is a line break
 * @attr {boolean} greedy - always the likeliest token
 * @fires {CustomEvent<{ info: GeneratorInfo }>} gpt2-ready - the model is loaded
 * @fires {CustomEvent<Chunk>} gpt2-chunk - a piece of text was written
 * @fires {CustomEvent<GenerationResult>} gpt2-done - the text is complete
 * @fires {CustomEvent<{ error: unknown }>} gpt2-error - loading or writing failed
 * @slot label - the words above the prompt
 * @csspart form - the prompt with its buttons
 * @csspart label - the words above the prompt
 * @csspart prompt - the field of the prompt
 * @csspart actions - the row of buttons
 * @csspart button - every button
 * @csspart generate - begins to write
 * @csspart stop - ends a text and keeps it
 * @csspart cancel - cancels a load
 * @csspart retry - tries again after a failure
 * @csspart speed - tokens per second
 * @csspart loading - what is shown of a load
 * @csspart progress - the bar
 * @csspart progress-text - how far a load is, in words
 * @csspart error - what is shown of a failure
 * @csspart error-title - what failed
 * @csspart error-detail - the message of the error
 * @csspart error-next - what to do
 * @csspart output - the text
 * @csspart prompt-echo - the prompt at its beginning
 * @csspart completion - what the model wrote
 * @cssprop --gpt2-accent - the main button and the bar
 * @cssprop --gpt2-on-accent - text on that colour
 * @cssprop --gpt2-muted - what is less important
 * @cssprop --gpt2-line - borders
 * @cssprop --gpt2-wash - behind the completion
 * @cssprop --gpt2-bad - failures
 * @cssprop --gpt2-radius - of corners
 * @cssprop --gpt2-output-max-height - of the text, which scrolls
 */
export class Gpt2GeneratorElement extends ElementBase {
  static readonly observedAttributes: readonly string[] = [...LOAD_ATTRIBUTES, "placeholder"];

  /** Options of `generate`; each wins over the attribute of its name. */
  options: GenerateOptions = {};

  readonly #view = buildView(this.attachShadow({ mode: "open", delegatesFocus: true }));
  /** The model in use, and the lease on it: both there or neither. */
  #generator: Generator | null = null;
  #lease: Lease | null = null;
  /** The load under way, and what cancels it. */
  #loading: Promise<Generator | null> | null = null;
  #controller = new AbortController();
  /** The run under way, and its end, which never rejects. */
  #stream: GenerationStream | null = null;
  /** Shows its text. */
  #growing: GrowingText | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #begun = false;

  constructor() {
    super();
    const view = this.#view;
    view.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.generate();
    });
    view.stop.addEventListener("click", () => this.stop());
    view.cancel.addEventListener("click", () => this.stop());
    view.retry.addEventListener("click", () => void this.generate());
    view.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
        event.preventDefault();
        void this.generate();
      }
    });
    this.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      if (this.state !== "generating" && this.state !== "loading") return;
      event.preventDefault();
      this.stop();
    });
  }

  /** The browser calls it when the element comes into a document. */
  connectedCallback(): void {
    // In the constructor, an element that a script makes has no attributes yet.
    if (!this.#begun) {
      this.#begun = true;
      this.#view.prompt.value ||= this.getAttribute("prompt") ?? "";
      this.#enter("idle", "");
    }
    if (this.hasAttribute("preload")) void this.load();
  }

  /** The browser calls it when the element leaves its document. */
  disconnectedCallback(): void {
    // An element that is moved is disconnected and connected again at once, and must keep its model.
    queueMicrotask(() => {
      if (!this.isConnected) this.#letGo();
    });
  }

  /** The browser calls it when an observed attribute changes. */
  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after) return;
    if (name === "placeholder") this.#view.prompt.placeholder = after ?? "";
    else if (this.#generator || this.#loading) this.#letGo();
  }

  /** Where the element stands. */
  get state(): GeneratorState {
    return (this.getAttribute("state") ?? "idle") as GeneratorState;
  }

  /** The text in the prompt field. */
  get value(): string {
    return this.#view.prompt.value;
  }
  /** Replaces the prompt. */
  set value(text: string) {
    this.#view.prompt.value = text;
  }

  /** What the model wrote last. */
  get text(): string {
    this.#growing?.show();
    return this.#view.completion.textContent ?? "";
  }

  /** Loads the model without generating. Null where that failed or was cancelled; `gpt2-error` then says why. */
  async load(): Promise<Generator | null> {
    if (this.#generator) return this.#generator;
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /**
   * Writes on from `prompt`, else from what is in the field.
   *
   * Null where the element is writing already, and where it failed or was cancelled; `gpt2-error` then says why.
   */
  async generate(prompt?: string): Promise<GenerationResult | null> {
    if (this.#stream) return null;
    if (prompt !== undefined) this.value = prompt;
    const generator = await this.load();
    // Of two calls that waited for the same load, the first one writes.
    if (!generator || this.#stream) return null;
    const run = this.#write(generator);
    this.#running = run;
    return run;
  }

  /** Cancels a load, or ends a run and keeps its text. */
  stop(): void {
    if (this.#stream) this.#stream.interrupt();
    else this.#controller.abort(new DOMException("loading was cancelled", "AbortError"));
  }

  async #load(): Promise<Generator | null> {
    const lease = new Lease((event) => this.#showProgress(event));
    const controller = new AbortController();
    this.#controller = controller;
    this.#view.progress.removeAttribute("value");
    this.#view.progressText.textContent = "";
    this.#enter("loading", "Loading the model.");
    try {
      const generator = await acquire(lease, choiceOf(this), controller.signal);
      this.#generator = generator;
      this.#lease = lease;
      this.#enter("ready", "The model is ready.");
      this.#tell("gpt2-ready", { info: generator.info });
      return generator;
    } catch (error) {
      if (isAbort(error)) this.#enter("idle", "Loading was cancelled.");
      else this.#fail(error);
      return null;
    }
  }

  async #write(generator: Generator): Promise<GenerationResult | null> {
    const view = this.#view;
    view.echo.textContent = this.value;
    const text = document.createTextNode("");
    view.completion.replaceChildren(text);
    view.output.hidden = false;
    view.speed.textContent = "";
    this.#enter("generating", "Writing.");
    try {
      const stream = generator.generate(this.value, {
        progress_callback: (event) => {
          view.speed.textContent = promptText(event);
        },
        ...optionsOf(this),
        ...this.options,
      });
      this.#stream = stream;
      // Both are awaited together, since both reject when a run fails.
      const [result] = await Promise.all([stream.result, this.#follow(stream, text)]);
      view.speed.textContent = rateText(result.timings.predicted_per_second);
      const said = `Finished: ${countText(result.usage.completion_tokens, "token")}.`;
      this.#enter(this.#generator === generator ? "ready" : "idle", said);
      this.#tell("gpt2-done", result);
      return result;
    } catch (error) {
      this.#fail(error);
      return null;
    } finally {
      this.#stream = null;
    }
  }

  async #follow(stream: GenerationStream, text: Text): Promise<void> {
    const growing = new GrowingText(text, this.#view.output);
    this.#growing = growing;
    try {
      for await (const chunk of stream) {
        growing.push(chunk.text);
        this.#tell("gpt2-chunk", chunk);
      }
    } finally {
      growing.show();
      this.#growing = null;
    }
  }

  #showProgress(event: ProgressEvent): void {
    if (event.status !== "progress_total") return;
    // While the size is not known, the bar only shows that something is under way.
    if (event.progress === null) this.#view.progress.removeAttribute("value");
    else if (event.total > 0 || event.progress > 0) this.#view.progress.value = event.progress;
    this.#view.progressText.textContent = progressText(event);
  }

  #enter(state: GeneratorState, said: string): void {
    const view = this.#view;
    const busy = state === "loading" || state === "generating";
    const inside = this.shadowRoot?.activeElement;
    this.setAttribute("state", state);
    view.loading.hidden = state !== "loading";
    view.error.hidden = state !== "failed";
    view.stop.hidden = state !== "generating";
    view.generate.hidden = busy;
    // If the button that had the focus is hidden now, the one in its place gets the focus.
    if (inside instanceof HTMLButtonElement) {
      (state === "loading" ? view.cancel : state === "generating" ? view.stop : view.generate).focus({
        preventScroll: true,
      });
    }
    view.announcer.textContent = said;
  }

  #fail(error: unknown): void {
    const { title, detail, next } = explain(error);
    if (isDeviceLost(error) && this.#lease) {
      discard(this.#lease);
      this.#giveBack(this.#lease);
    }
    this.#enter("failed", "");
    this.#view.errorTitle.textContent = title;
    this.#view.errorDetail.textContent = detail;
    this.#view.errorNext.textContent = next;
    this.#tell("gpt2-error", { error });
  }

  /** Ends whatever is under way and gives the generator back. */
  #letGo(): void {
    this.stop();
    const lease = this.#lease;
    // The generator is given back only when the run that uses it has ended. A load that is cancelled gives itself back.
    if (lease) void this.#running.then(() => this.#giveBack(lease));
    this.#generator = null;
    this.#lease = null;
    if (!this.#stream) this.#enter("idle", "");
  }

  #giveBack(lease: Lease): void {
    if (this.#lease === lease) {
      this.#lease = null;
      this.#generator = null;
    }
    release(lease).catch((error: unknown) => this.#tell("gpt2-error", { error }));
  }

  #tell(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
