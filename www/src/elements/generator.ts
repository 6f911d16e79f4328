/** `<gpt2-generator>`. */

import { isAbort } from "../api/errors.js";
import type { GenerateOptions, GenerationResult, GenerationStream, Generator, ProgressEvent } from "../api/index.js";
import { LOAD_ATTRIBUTES, optionsOf } from "./attributes.js";
import { ElementBase, ElementState, takeOver } from "./element-base.js";
import { isDeviceLost } from "./explain.js";
import { buildView, nameParts } from "./generator-view.js";
import { Hold } from "./hold.js";
import { GENERATOR_MESSAGES, type GeneratorMessages } from "./messages.js";
import { ShownTexts } from "./shown-texts.js";

/** Where a `<gpt2-generator>` stands; style sheets see it as `:state(…)`. */
export type GeneratorState = "idle" | "loading" | "ready" | "generating" | "failed";

/**
 * A prompt, a model, and the text that it writes.
 *
 * ```html
 * <gpt2-generator model="demo" prompt="Once upon a time" max-new-tokens="80" temperature="0.8"></gpt2-generator>
 * ```
 *
 * Attributes hold the options of `generate`, with hyphens. The property `options` holds what they cannot say, and wins
 * over them. All events bubble and are composed. With `alternatives="3"` three texts are written as one batch.
 *
 * In a form its value, under `name`, is the prompt with what was written after it.
 *
 * Keys: Ctrl or Cmd with Enter in the field generates, Esc stops. The model is shared with the other elements of the
 * page that ask for the same, and is disposed of when the last of them leaves the page; one that is set as `generator`
 * is used instead. States for style sheets: `:state(loading)`, `ready`, `generating`, `failed`.
 *
 * @tagname gpt2-generator
 * @attr {string} model - "demo" (the default), a Hugging Face id, or the URL of a folder
 * @attr {"auto"|"webgpu"|"wasm"} device - what the model runs on
 * @attr {"auto"|"fp32"|"fp16"|"q8"|"q4"} dtype - the format of the weights
 * @attr {string} revision - the branch, tag or commit of a model on a hub
 * @attr {boolean} preload - loads at once, not at first use
 * @attr {string} name - under which a form has its value
 * @attr {boolean} disabled - neither writes nor takes part in a form
 * @attr {string} prompt - the text of the field, until somebody types there
 * @attr {string} placeholder - what the field shows while it is empty
 * @attr {number} alternatives - writes so many texts at once, of which one is shown; 1 by default
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
 * @csspart again - writes once more
 * @csspart copy - copies the prompt and the text
 * @csspart alternatives - the buttons between several texts
 * @csspart previous - shows the text before
 * @csspart next - shows the next text
 * @csspart which - which text is shown
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
  /** The browser then lets it take part in forms. */
  static readonly formAssociated = true;
  static readonly observedAttributes: readonly string[] = [...LOAD_ATTRIBUTES, "placeholder", "prompt", "alternatives"];

  readonly #view = buildView(this.attachShadow({ mode: "open", delegatesFocus: true }));
  readonly #internals = this.attachInternals();
  readonly #state = new ElementState<GeneratorState>(this.#internals, "idle");
  readonly #hold = new Hold(this, {
    progress: (event) => this.#showProgress(event),
    loaded: ({ info }) => this.#tell("gpt2-ready", { info }),
    failed: (error) => this.#tell("gpt2-error", { error }),
  });
  #options: GenerateOptions = {};
  #messages: GeneratorMessages = GENERATOR_MESSAGES;
  /** Whether somebody has typed, after which the attribute `prompt` changes nothing. */
  #isTyped = false;
  /** Whether the element or a fieldset around it is disabled. */
  #isDisabled = false;
  /** The run under way, and its end, which never rejects. */
  #stream: GenerationStream | null = null;
  #running: Promise<unknown> = Promise.resolve();
  /** What was written last. */
  readonly #texts = new ShownTexts(
    this.#view,
    (shown, n) => this.#messages.which(shown, n),
    () => this.#setFormValue(),
  );

  constructor() {
    super();
    const view = this.#view;
    const on = (button: HTMLElement, act: () => void): void => button.addEventListener("click", act);
    view.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.generate();
    });
    on(view.stop, () => this.stop());
    on(view.cancel, () => this.stop());
    on(view.retry, () => void this.generate());
    on(view.again, () => void this.generate());
    on(view.copy, () => void this.#copy());
    view.prompt.addEventListener("input", () => {
      this.#isTyped = true;
      this.#setFormValue();
    });
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
    nameParts(view, this.#messages);
  }

  /** The browser calls it when the element comes into a document. */
  connectedCallback(): void {
    takeOver(this, ["options", "value", "generator", "messages", "disabled", "name"]);
    if (this.state === "idle") this.#enter("idle", "");
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
    else if (name === "prompt") {
      if (!this.#isTyped) this.#view.prompt.value = after ?? "";
      this.#setFormValue();
    } else if (name !== "alternatives" && (this.#hold.generator || this.#hold.isLoading)) this.#letGo();
  }

  /** The browser calls it when the element or a fieldset around it is disabled or enabled. */
  formDisabledCallback(isDisabled: boolean): void {
    this.#isDisabled = isDisabled;
    if (isDisabled) this.stop();
    const { prompt, generate, again } = this.#view;
    for (const control of [prompt, generate, again]) control.disabled = isDisabled;
  }

  /** The browser calls it when the form is reset. */
  formResetCallback(): void {
    this.stop();
    this.#isTyped = false;
    this.#view.prompt.value = this.getAttribute("prompt") ?? "";
    this.#texts.begin(0);
    this.#view.output.hidden = true;
    this.#enter(this.#hold.generator ? "ready" : "idle", "");
  }

  /** The browser calls it with the prompt of an earlier visit. */
  formStateRestoreCallback(prompt: string): void {
    this.value = prompt;
  }

  /** Where the element stands. */
  get state(): GeneratorState {
    return this.#state.now;
  }

  /** The form that it belongs to. */
  get form(): HTMLFormElement | null {
    return this.#internals.form;
  }

  /** The name under which a form has its value. */
  get name(): string {
    return this.getAttribute("name") ?? "";
  }
  /** Sets the attribute. */
  set name(name: string) {
    this.setAttribute("name", name);
  }

  /** Whether it neither writes nor takes part in a form. */
  get disabled(): boolean {
    return this.hasAttribute("disabled");
  }
  /** Sets the attribute, or removes it. */
  set disabled(disabled: boolean) {
    this.toggleAttribute("disabled", disabled);
  }

  /** The text in the prompt field. */
  get value(): string {
    return this.#view.prompt.value;
  }
  /** Replaces the text. */
  set value(text: string) {
    this.#isTyped = true;
    this.#view.prompt.value = text;
    this.#setFormValue();
  }

  /** Options of `generate`; each wins over the attribute of its name. */
  get options(): GenerateOptions {
    return this.#options;
  }
  /** Replaces the options. */
  set options(options: GenerateOptions) {
    this.#options = options;
  }

  /** The model that is used. One that is set is used instead of the attributes' one, and not disposed of. */
  get generator(): Generator | null {
    return this.#hold.generator;
  }
  /** Uses this one from now on; null goes back to the attributes’ one. */
  set generator(generator: Generator | null) {
    this.stop();
    this.#hold.give(generator);
    if (this.state !== "generating") this.#enter(this.#hold.generator ? "ready" : "idle", "");
  }

  /** What the element says; each text that is set replaces its own. */
  get messages(): GeneratorMessages {
    return this.#messages;
  }
  /** Replaces some of the words, or all. */
  set messages(messages: Partial<GeneratorMessages>) {
    this.#messages = { ...GENERATOR_MESSAGES, ...messages };
    nameParts(this.#view, this.#messages);
  }

  /** What the model wrote last: of several texts the one that is shown. */
  get text(): string {
    return this.#texts.text;
  }

  /** All texts that were written last. */
  get texts(): readonly string[] {
    return this.#texts.all;
  }

  /** Shows one of several texts, from 0 on. */
  choose(index: number): void {
    this.#texts.choose(index);
  }

  /** Loads the model without generating. Null where that failed or was cancelled; `gpt2-error` then says why. */
  async load(): Promise<Generator | null> {
    if (this.#hold.generator) return this.#hold.generator;
    if (!this.#hold.isLoading) {
      this.#view.progress.removeAttribute("value");
      this.#view.progressText.textContent = "";
      this.#enter("loading", this.#messages.loading);
    }
    try {
      const generator = await this.#hold.load();
      if (this.state === "loading") this.#enter("ready", this.#messages.ready);
      return generator;
    } catch (error) {
      if (isAbort(error)) this.#enter("idle", this.#messages.cancelled);
      else this.#fail(error);
      return null;
    }
  }

  /**
   * Writes on from `prompt`, else from what is in the field.
   *
   * Null where the element is disabled or writing already, and where it failed or was cancelled; `gpt2-error` then says
   * why.
   */
  async generate(prompt?: string): Promise<GenerationResult | null> {
    if (this.#stream || this.#isDisabled) return null;
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
    else this.#hold.cancel();
  }

  async #write(generator: Generator): Promise<GenerationResult | null> {
    const view = this.#view;
    const alternatives = this.getAttribute("alternatives");
    view.echo.textContent = this.value;
    view.output.hidden = false;
    view.speed.textContent = "";
    this.#enter("generating", this.#messages.writing);
    try {
      const options = {
        progress_callback: (event) => {
          view.speed.textContent = this.#messages.reading(event);
        },
        ...(alternatives === null ? {} : { num_return_sequences: Number(alternatives), do_sample: true }),
        ...optionsOf(this),
        ...this.#options,
      } satisfies GenerateOptions;
      this.#texts.begin(options.num_return_sequences ?? 1);
      const stream = generator.generate(this.value, options);
      this.#stream = stream;
      // Both are awaited together, since both reject when a run fails.
      const [result] = await Promise.all([stream.result, this.#follow(stream)]);
      view.speed.textContent = this.#messages.speed(result.timings.predicted_per_second);
      this.#stream = null;
      this.#enter(this.#hold.generator === generator ? "ready" : "idle", this.#messages.finished(result));
      this.#tell("gpt2-done", result);
      return result;
    } catch (error) {
      this.#stream = null;
      this.#fail(error);
      return null;
    }
  }

  async #follow(stream: GenerationStream): Promise<void> {
    try {
      for await (const chunk of stream) {
        this.#texts.push(chunk.index, chunk.text);
        this.#tell("gpt2-chunk", chunk);
      }
    } finally {
      this.#texts.flush();
      this.#setFormValue();
    }
  }

  #setFormValue(): void {
    this.#internals.setFormValue(this.value + this.text, this.value);
  }

  async #copy(): Promise<void> {
    const { copy, announcer } = this.#view;
    let said = this.#messages.copied;
    try {
      await navigator.clipboard.writeText(this.value + this.text);
      copy.textContent = said;
      setTimeout(() => nameParts(this.#view, this.#messages), 1500);
    } catch {
      said = this.#messages.notCopied;
    }
    announcer.textContent = said;
  }

  #showProgress(event: ProgressEvent): void {
    if (event.status !== "progress_total") return;
    // While the size is not known, the bar only shows that something is under way.
    if (event.progress === null) this.#view.progress.removeAttribute("value");
    else if (event.total > 0 || event.progress > 0) this.#view.progress.value = event.progress;
    this.#view.progressText.textContent = this.#messages.progress(event);
  }

  #enter(state: GeneratorState, said: string): void {
    const view = this.#view;
    const isBusy = state === "loading" || state === "generating";
    const inside = this.shadowRoot?.activeElement;
    this.#state.enter(state);
    view.loading.hidden = state !== "loading";
    view.error.hidden = state !== "failed";
    view.stop.hidden = state !== "generating";
    view.generate.hidden = isBusy;
    view.again.hidden = view.copy.hidden = isBusy || this.text === "";
    // If the button that had the focus is hidden now, the one in its place gets the focus.
    if (inside instanceof HTMLButtonElement && inside.hidden) {
      const next = state === "loading" ? view.cancel : state === "generating" ? view.stop : view.generate;
      next.focus({ preventScroll: true });
    }
    view.announcer.textContent = said;
  }

  #fail(error: unknown): void {
    const { title, detail, next } = this.#messages.error(error);
    if (isDeviceLost(error)) this.#hold.lost();
    this.#enter("failed", "");
    this.#view.errorTitle.textContent = title;
    this.#view.errorDetail.textContent = detail;
    this.#view.errorNext.textContent = next;
    this.#tell("gpt2-error", { error });
  }

  /** Ends whatever is under way, and gives the model back when the run that uses it has ended. */
  #letGo(): void {
    this.stop();
    this.#hold.letGo(this.#running);
    if (!this.#stream) this.#enter("idle", "");
  }

  #tell(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
