/** `<gpt2-autocomplete>`. */

import { isAbort } from "../api/errors.js";
import type { GenerateOptions, Generator } from "../api/index.js";
import { LOAD_ATTRIBUTES, optionsOf } from "./attributes.js";
import { firstWord, promptBefore } from "./continuation.js";
import { ElementBase, ElementState, takeOver, wear } from "./element-base.js";
import { isDeviceLost } from "./explain.js";
import { type Caret, caretOf, type FieldElement, insert, isField, roomIn } from "./field.js";
import { GHOST_STYLE, Ghost } from "./ghost.js";
import { Hold } from "./hold.js";
import { AUTOCOMPLETE_MESSAGES, type AutocompleteMessages } from "./messages.js";
import { writeSuggestion } from "./suggestion.js";

const DELAY_MS = 300;
const MODIFIERS = ["Shift", "Control", "Alt", "Meta", "AltGraph"];

/** Where a `<gpt2-autocomplete>` stands; style sheets see it as `:state(…)`. */
export type AutocompleteState = "idle" | "loading" | "ready" | "generating" | "suggesting" | "failed";

/**
 * Suggests how the text of a field may go on, as grey text after the caret.
 *
 * ```html
 * <textarea id="letter"></textarea>
 * <gpt2-autocomplete for="letter" model="demo"></gpt2-autocomplete>
 * ```
 *
 * The field is a textarea, a text input or an element with `contenteditable`; it may come later than this element, or
 * be replaced. Tab accepts the suggestion, Ctrl or Cmd with the right arrow its next word, Alt with ] and [ shows the
 * next and the previous alternative, Esc dismisses; to type what it says goes along with it. On a touch screen a chip
 * takes it. While there is no suggestion, all keys do what they always do. A suggestion comes when typing pauses at the
 * end of a line. It ends with its sentence or line, after 12 tokens at most, and is the likeliest text unless the
 * attributes ask for sampling.
 *
 * The element is laid over the field: put it beside it, in what scrolls with it. Attributes hold the options of
 * `generate`, with hyphens; the property `options` holds what they cannot say, and wins over them. Events bubble and
 * are composed. After a failure the next focus tries again. States for style sheets: `:state(loading)`, `generating`,
 * `suggesting`, `failed`.
 *
 * @tagname gpt2-autocomplete
 * @attr {string} for - the id of a field in the same document or shadow tree
 * @attr {string} model - "demo" (the default), a Hugging Face id, or the URL of a folder
 * @attr {"auto"|"webgpu"|"wasm"} device - what the model runs on
 * @attr {"auto"|"fp32"|"fp16"|"q8"|"q4"} dtype - the format of the weights
 * @attr {string} revision - the branch, tag or commit of a model on a hub
 * @attr {boolean} preload - loads at once, not at the first typing
 * @attr {boolean} disabled - suggests nothing
 * @attr {boolean} quiet - tells a screen reader nothing of suggestions
 * @attr {number} delay - how long typing pauses before a suggestion, in milliseconds; 300 by default
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
 * @fires {CustomEvent<{ text: string }>} gpt2-accept - the suggestion, or its first word, was taken into the field
 * @fires {CustomEvent<{ error: unknown }>} gpt2-error - loading or writing failed
 * @csspart overlay - what lies over the field
 * @csspart ghost - the suggestion
 * @csspart note - loading and failure, in the field's corner
 * @csspart chip - takes the suggestion, on touch screens
 * @cssprop --gpt2-ghost-color - the colour of the suggestion
 * @cssprop --gpt2-ghost-z-index - of the overlay
 */
export class Gpt2AutocompleteElement extends ElementBase {
  static readonly observedAttributes: readonly string[] = [...LOAD_ATTRIBUTES, "for", "disabled"];

  readonly #ghost = new Ghost();
  readonly #announcer = document.createElement("p");
  readonly #state: ElementState<AutocompleteState>;
  readonly #hold = new Hold(this, {
    progress: (event) => {
      if (this.#field && event.status === "progress_total")
        this.#ghost.note(this.#field, this.#messages.progress(event));
    },
    loaded: ({ info }) => this.#tell("gpt2-ready", { info }),
    failed: (error) => this.#tell("gpt2-error", { error }),
  });
  #options: GenerateOptions = {};
  #messages = AUTOCOMPLETE_MESSAGES;
  /** Finds the field when it comes or is replaced. */
  readonly #watcher = new MutationObserver(() => this.#attach());
  /** Undoes what `#listen` did. */
  #detach: AbortController | null = null;
  #field: FieldElement | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The suggestion that is being written; aborted when it is no longer wanted. */
  #run: AbortController | null = null;
  #running: Promise<void> = Promise.resolve();
  /** The text at whose caret the suggestion stands. */
  #at: Caret | null = null;
  /** The suggestions for it, and which one is shown. */
  #alternatives: string[] = [];
  #shown = 0;

  constructor() {
    super();
    this.#state = new ElementState<AutocompleteState>(this.attachInternals(), "idle");
    this.#announcer.className = "unseen";
    this.#announcer.setAttribute("role", "status");
    this.#announcer.setAttribute("aria-live", "polite");
    const root = this.attachShadow({ mode: "open" });
    wear(root, GHOST_STYLE);
    root.append(this.#ghost.box, this.#announcer);
    // The field keeps the focus, and on a phone its keyboard.
    for (const type of ["pointerdown", "mousedown"])
      this.#ghost.chip.addEventListener(type, (event) => event.preventDefault());
    this.#ghost.chip.addEventListener("click", () => this.accept());
  }

  /** The browser calls it when the element comes into a document. */
  connectedCallback(): void {
    takeOver(this, ["options", "generator", "messages", "disabled"]);
    const watched = { childList: true, subtree: true, attributeFilter: ["id", "contenteditable", "type"] };
    this.#watcher.observe(this.getRootNode(), watched);
    this.#attach();
    if (this.hasAttribute("preload")) void this.load();
  }

  /** The browser calls it when the element leaves its document. */
  disconnectedCallback(): void {
    this.#watcher.disconnect();
    this.#detachField();
    // An element that is moved is disconnected and connected again at once, and must keep its model.
    queueMicrotask(() => {
      if (!this.isConnected) this.#letGo();
    });
  }

  /** The browser calls it when an observed attribute changes. */
  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after || !this.isConnected) return;
    if (name === "for") this.#attach();
    else if (name === "disabled") this.dismiss();
    else this.#letGo();
  }

  /** Where the element stands. */
  get state(): AutocompleteState {
    return this.#state.now;
  }

  /** The suggestion that is shown; empty when there is none. */
  get suggestion(): string {
    return this.#ghost.text;
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
    this.dismiss();
    this.#hold.give(generator);
    this.#rest();
  }

  /** What the element says; each text that is set replaces its own. */
  get messages(): AutocompleteMessages {
    return this.#messages;
  }
  /** Replaces some of the words, or all. */
  set messages(messages: Partial<AutocompleteMessages>) {
    this.#messages = { ...AUTOCOMPLETE_MESSAGES, ...messages };
  }

  /** Whether nothing is suggested. */
  get disabled(): boolean {
    return this.hasAttribute("disabled");
  }
  /** Sets the attribute, or removes it. */
  set disabled(disabled: boolean) {
    this.toggleAttribute("disabled", disabled);
  }

  /** Loads the model without waiting for the first typing. A failure is told by `gpt2-error`. */
  async load(): Promise<void> {
    try {
      await this.#model();
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    }
  }

  /** Writes the suggestion into the field, as if it had been typed. */
  accept(): void {
    this.#accept(this.#ghost.text);
  }

  /** Writes the first word of the suggestion into the field; the rest stays. */
  acceptWord(): void {
    this.#accept(firstWord(this.#ghost.text));
  }

  /** Shows the next alternative, or the previous one for −1; one more is written where there is none yet. */
  alternative(step: 1 | -1 = 1): void {
    const field = this.#field;
    if (!field || !this.#at || this.#ghost.text === "" || this.#run) return;
    const to = this.#shown + step;
    if (to < 0) return;
    this.#shown = to;
    if (to < this.#alternatives.length) this.#show(this.#alternatives[to] ?? "");
    else this.#begin(field, this.#at, to);
  }

  /** Takes the suggestion away and stops asking for one. */
  dismiss(): void {
    clearTimeout(this.#timer);
    this.#run?.abort();
    this.#run = null;
    this.#at = null;
    this.#alternatives = [];
    this.#shown = 0;
    this.#announcer.textContent = "";
    if (this.#field) this.#ghost.show(this.#field, { before: "", after: "" }, "");
    if (this.state !== "failed") this.#rest();
  }

  /** Finds the field that `for` names, which may not be there yet. */
  #attach(): void {
    const id = this.getAttribute("for") ?? "";
    const root = this.getRootNode();
    const found = root instanceof Document || root instanceof ShadowRoot ? root.getElementById(id) : null;
    const field = isField(found) ? found : null;
    if (field === this.#field) return;
    this.#detachField();
    if (found && !field) this.#fail(new TypeError(`<gpt2-autocomplete for="${id}">: #${id} is no field of text`));
    if (!field) return;
    this.#field = field;
    this.#listen(field);
    this.#rest();
  }

  #listen(field: FieldElement): void {
    const detach = new AbortController();
    this.#detach = detach;
    const { signal } = detach;
    const on = (type: string, act: (event: Event) => void): void => field.addEventListener(type, act, { signal });
    on("keydown", (event) => this.#onKey(event as KeyboardEvent));
    on("input", (event) => {
      // An input method is left alone until its text is whole.
      if (!(event instanceof InputEvent && event.isComposing)) this.#onInput();
    });
    on("compositionstart", () => this.dismiss());
    on("compositionend", () => this.#onInput());
    on("blur", () => this.dismiss());
    on("pointerdown", () => this.dismiss());
    on("focus", () => this.state === "failed" && this.#rest());
    document.addEventListener("reset", (event) => (event.target as Node).contains(field) && this.dismiss(), { signal });
    const place = (): void => this.#ghost.place(field);
    // Captured, to hear of the scrolling of every box around the field and of its own text.
    document.addEventListener("scroll", place, { signal, capture: true, passive: true });
    addEventListener("resize", place, { signal });
    const resized = new ResizeObserver(place);
    resized.observe(field);
    // The browser's own suggestions would lie over these.
    const own = field.getAttribute("writingsuggestions");
    field.setAttribute("writingsuggestions", "false");
    signal.addEventListener("abort", () => {
      resized.disconnect();
      if (own === null) field.removeAttribute("writingsuggestions");
      else field.setAttribute("writingsuggestions", own);
    });
  }

  #detachField(): void {
    this.dismiss();
    this.#detach?.abort();
    this.#detach = null;
    this.#field = null;
  }

  #onKey(event: KeyboardEvent): void {
    if (event.isComposing || MODIFIERS.includes(event.key) || this.#ghost.text === "") return;
    const { ctrlKey, altKey, metaKey, shiftKey, key, code } = event;
    const isPlain = !ctrlKey && !altKey && !metaKey && !shiftKey;
    const isRtl = this.#field && getComputedStyle(this.#field).direction === "rtl";
    const isWord = (ctrlKey || metaKey) && !altKey && !shiftKey && key === (isRtl ? "ArrowLeft" : "ArrowRight");
    if (isPlain && key === "Tab") this.accept();
    else if (isWord) this.acceptWord();
    // By the key's place: on a Mac, Alt makes another character of it.
    else if (altKey && code === "BracketRight") this.alternative(1);
    else if (altKey && code === "BracketLeft") this.alternative(-1);
    else if (key === "Escape") {
      // This Escape is for the suggestion, so a dialog around the field must not hear of it.
      event.stopPropagation();
      this.dismiss();
    } else {
      // A character may be the one that the suggestion begins with; `#onInput` sees.
      if (key.length > 1 || ctrlKey || metaKey) this.dismiss();
      return;
    }
    event.preventDefault();
  }

  /** Goes along with what is typed if the suggestion says the same, else asks anew soon. */
  #onInput(): void {
    const field = this.#field;
    const at = this.#at;
    const now = field && caretOf(field);
    if (field && at && now && this.#ghost.text !== "" && now.after === at.after && now.before.startsWith(at.before)) {
      const typed = now.before.slice(at.before.length);
      const rest = this.#ghost.text.slice(typed.length);
      if (typed !== "" && rest !== "" && this.#ghost.text.startsWith(typed)) {
        this.#at = now;
        this.#alternatives = [rest];
        this.#shown = 0;
        this.#show(rest);
        return;
      }
    }
    this.#suggestSoon();
  }

  #accept(text: string): void {
    const field = this.#field;
    if (!field || text === "") return;
    // While it is still being written it does not go on after what is accepted.
    this.#run?.abort();
    this.#run = null;
    insert(field, text);
    this.#tell("gpt2-accept", { text });
  }

  #suggestSoon(): void {
    this.dismiss();
    const field = this.#field;
    if (!field || this.disabled || this.state === "failed") return;
    const at = caretOf(field);
    // Only where nothing more stands in the caret's line.
    if (!at || !/^[^\S\n]*(\n|$)/.test(at.after)) return;
    const delay = Number(this.getAttribute("delay") ?? DELAY_MS);
    this.#timer = setTimeout(() => this.#begin(field, at, 0), delay);
  }

  #begin(field: FieldElement, at: Caret, alternative: number): void {
    const run = new AbortController();
    this.#run = run;
    // A cancelled run ends before the next one begins.
    this.#running = this.#running.then(() => this.#suggest(field, at, alternative, run.signal));
  }

  #model(): Promise<Generator> {
    const loading = this.#hold.load();
    if (this.#hold.isLoading) {
      this.#state.enter("loading");
      loading.then(
        () => this.state === "loading" && this.#rest(),
        () => undefined, // told by whoever asked for it
      );
    }
    return loading;
  }

  async #suggest(field: FieldElement, at: Caret, alternative: number, signal: AbortSignal): Promise<void> {
    const { prompt, spaces } = promptBefore(at.before);
    if (prompt === "" || signal.aborted) return;
    try {
      const generator = await this.#model();
      // If typing went on while the model was loading, a later run suggests.
      if (signal.aborted) return;
      this.#state.enter("generating");
      this.#at = at;
      const options = { ...optionsOf(this), ...this.options };
      const request = { prompt, spaces, alternative, room: roomIn(field), options, signal };
      const result = await writeSuggestion(generator, request, {
        grown: (text) => this.#show(text),
        chunk: (chunk) => this.#tell("gpt2-chunk", chunk),
      });
      this.#tell("gpt2-done", result);
      if (signal.aborted) return;
      this.#run = null;
      const text = this.#ghost.text;
      this.#alternatives[alternative] = text;
      this.#state.enter(text === "" ? "ready" : "suggesting");
      if (text !== "" && !this.hasAttribute("quiet"))
        this.#announcer.textContent = this.#messages.suggestion(text.trim());
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    }
  }

  #show(text: string): void {
    if (!this.#field || !this.#at) return;
    const chip = matchMedia("(pointer: coarse)").matches ? this.#messages.take(text.trim()) : "";
    this.#ghost.show(this.#field, this.#at, text, chip);
  }

  #fail(error: unknown): void {
    this.dismiss();
    if (isDeviceLost(error)) this.#hold.lost();
    else this.#hold.letGo(this.#running);
    this.#state.enter("failed");
    const said = this.#messages.failed(error);
    if (this.#field) this.#ghost.note(this.#field, said);
    this.#announcer.textContent = said;
    this.#tell("gpt2-error", { error });
  }

  #letGo(): void {
    this.dismiss();
    // The generator is given back only when the run that uses it has ended.
    this.#hold.letGo(this.#running);
    this.#rest();
  }

  /** Enters the state in which nothing is suggested and nothing has failed. */
  #rest(): void {
    this.#state.enter(this.#hold.isLoading ? "loading" : this.#hold.generator ? "ready" : "idle");
    if (this.#field && !this.#hold.isLoading) this.#ghost.note(this.#field, "");
  }

  #tell(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
