/** `<gpt2-autocomplete>`. */

import { isAbort } from "../api/errors.js";
import type { GenerateOptions, GenerationStream, Generator } from "../api/index.js";
import { choiceOf, LOAD_ATTRIBUTES, optionsOf } from "./attributes.js";
import { continuation, promptBefore } from "./continuation.js";
import { ElementBase, wear } from "./element-base.js";
import { explain, isDeviceLost } from "./explain.js";
import { progressText } from "./figures.js";
import { GHOST_STYLE, Ghost } from "./ghost.js";
import { acquire, discard, Lease, release } from "./shared.js";

const DELAY_MS = 300;

/** Where a `<gpt2-autocomplete>` stands; also its `state` attribute, for style sheets. */
export type AutocompleteState = "idle" | "loading" | "ready" | "generating" | "suggesting" | "failed";

/**
 * Suggests how a textarea's text may go on, as grey text after the caret.
 *
 * ```html
 * <textarea id="letter"></textarea>
 * <gpt2-autocomplete for="letter" model="demo"></gpt2-autocomplete>
 * ```
 *
 * Tab accepts the suggestion, Esc dismisses it, and typing replaces it; while there is none, both keys do what they
 * always do. A suggestion comes when typing pauses and only white space follows the caret. It ends with its sentence or
 * line, after 12 tokens at most, and is the likeliest text unless the attributes ask for sampling.
 *
 * The element is laid over the textarea: put it beside it, in what scrolls with it. Attributes hold the options of
 * `generate`, with hyphens; the property `options` holds what they cannot say, and wins over them. Events bubble and
 * are composed. After a failure the next focus tries again. States for style sheets: `[state=loading]`, `generating`,
 * `suggesting`, `failed`.
 *
 * @tagname gpt2-autocomplete
 * @attr {string} for - the id of a textarea in the same document or shadow tree
 * @attr {string} model - "demo" (the default), a Hugging Face id, or the URL of a folder
 * @attr {"auto"|"webgpu"|"wasm"} device - what the model runs on
 * @attr {"auto"|"fp32"|"fp16"|"q8"|"q4"} dtype - the format of the weights
 * @attr {string} revision - the branch, tag or commit of a model on a hub
 * @attr {boolean} preload - loads at once, not at the first typing
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
 * @fires {CustomEvent<{ text: string }>} gpt2-accept - the suggestion was taken into the textarea
 * @fires {CustomEvent<{ error: unknown }>} gpt2-error - loading or writing failed
 * @csspart overlay - what lies over the textarea
 * @csspart ghost - the suggestion
 * @csspart note - loading and failure, in the textarea's corner
 * @cssprop --gpt2-ghost-color - the colour of the suggestion
 * @cssprop --gpt2-ghost-z-index - of the overlay
 */
export class Gpt2AutocompleteElement extends ElementBase {
  static readonly observedAttributes: readonly string[] = [...LOAD_ATTRIBUTES, "for"];

  /** Options of `generate`; each wins over the attribute of its name. */
  options: GenerateOptions = {};

  readonly #ghost = new Ghost();
  readonly #announcer = document.createElement("p");
  /** Undoes what `#attach` did. */
  #detach: AbortController | null = null;
  #area: HTMLTextAreaElement | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The model in use, and the lease on it: both there or neither. */
  #generator: Generator | null = null;
  #lease: Lease | null = null;
  /** The load under way, and what cancels it. Typing does not cancel it. */
  #loading: Promise<Generator> | null = null;
  #loadController = new AbortController();
  /** The suggestion that is being written; aborted when it is no longer wanted. */
  #run: AbortController | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor() {
    super();
    this.#announcer.className = "unseen";
    this.#announcer.setAttribute("role", "status");
    this.#announcer.setAttribute("aria-live", "polite");
    const root = this.attachShadow({ mode: "open" });
    wear(root, GHOST_STYLE);
    root.append(this.#ghost.box, this.#announcer);
  }

  /** The browser calls it when the element comes into a document. */
  connectedCallback(): void {
    this.#attach();
    if (this.hasAttribute("preload")) void this.load();
  }

  /** The browser calls it when the element leaves its document. */
  disconnectedCallback(): void {
    this.#detachArea();
    // An element that is moved is disconnected and connected again at once, and must keep its model.
    queueMicrotask(() => {
      if (!this.isConnected) this.#letGo();
    });
  }

  /** The browser calls it when an observed attribute changes. */
  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after || !this.isConnected) return;
    if (name === "for") {
      this.#detachArea();
      this.#attach();
    } else this.#letGo();
  }

  /** Where the element stands. */
  get state(): AutocompleteState {
    return (this.getAttribute("state") ?? "idle") as AutocompleteState;
  }

  /** The suggestion that is shown; empty when there is none. */
  get suggestion(): string {
    return this.#ghost.text;
  }

  /** Loads the model without waiting for the first typing. A failure is told by `gpt2-error`. */
  async load(): Promise<void> {
    try {
      await this.#model();
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    }
  }

  /** Writes the suggestion into the textarea, as if it had been typed. */
  accept(): void {
    const area = this.#area;
    const text = this.#ghost.text;
    if (!area || text === "") return;
    this.dismiss();
    area.focus();
    // Deprecated, but the only way to insert text that the browser can undo. Some browsers refuse it in a textarea.
    if (!document.execCommand("insertText", false, text)) {
      area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
      area.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: text }));
    }
    this.#tell("gpt2-accept", { text });
  }

  /** Takes the suggestion away and stops asking for one. */
  dismiss(): void {
    clearTimeout(this.#timer);
    this.#run?.abort();
    this.#run = null;
    this.#announcer.textContent = "";
    if (this.#area) this.#ghost.show(this.#area, "");
    if (this.state !== "failed") this.#rest();
  }

  #attach(): void {
    const id = this.getAttribute("for") ?? "";
    const root = this.getRootNode();
    const area = root instanceof Document || root instanceof ShadowRoot ? root.getElementById(id) : null;
    if (!(area instanceof HTMLTextAreaElement)) {
      this.#fail(new TypeError(`<gpt2-autocomplete for="${id}">: there is no <textarea id="${id}">`));
      return;
    }
    this.#area = area;
    this.#rest();
    const detach = new AbortController();
    this.#detach = detach;
    const { signal } = detach;
    area.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    area.addEventListener("input", () => this.#suggestSoon(), { signal });
    area.addEventListener("compositionstart", () => this.dismiss(), { signal });
    area.addEventListener("blur", () => this.dismiss(), { signal });
    area.addEventListener("pointerdown", () => this.dismiss(), { signal });
    area.addEventListener("focus", () => this.state === "failed" && this.#rest(), { signal });
    const place = (): void => this.#ghost.place(area);
    // Captured, to hear of the scrolling of every box around the textarea and of its own text.
    document.addEventListener("scroll", place, { signal, capture: true, passive: true });
    addEventListener("resize", place, { signal });
    const resized = new ResizeObserver(place);
    resized.observe(area);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  #detachArea(): void {
    this.dismiss();
    this.#detach?.abort();
    this.#detach = null;
    this.#area = null;
  }

  #onKey(event: KeyboardEvent): void {
    if (event.isComposing || ["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey;
    const shown = this.#ghost.text !== "";
    if (shown && plain && event.key === "Tab") {
      event.preventDefault();
      this.accept();
      return;
    }
    if (shown && event.key === "Escape") {
      // This Escape is for the suggestion, so a dialog around the textarea must not hear of it.
      event.preventDefault();
      event.stopPropagation();
    }
    this.dismiss();
  }

  #suggestSoon(): void {
    this.dismiss();
    const area = this.#area;
    if (!area || this.state === "failed") return;
    if (area.selectionStart !== area.selectionEnd || area.value.slice(area.selectionEnd).trim() !== "") return;
    const delay = Number(this.getAttribute("delay") ?? DELAY_MS);
    this.#timer = setTimeout(() => {
      const run = new AbortController();
      this.#run = run;
      // A cancelled run ends before the next one begins.
      this.#running = this.#running.then(() => this.#suggest(area, run.signal));
    }, delay);
  }

  #model(): Promise<Generator> {
    if (this.#generator) return Promise.resolve(this.#generator);
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null;
      if (this.state === "loading") this.#rest();
    });
    this.#enter("loading");
    return this.#loading;
  }

  async #load(): Promise<Generator> {
    this.#loadController = new AbortController();
    const lease = new Lease((event) => {
      if (this.#area && event.status === "progress_total") this.#ghost.note(this.#area, progressText(event));
    });
    const generator = await acquire(lease, choiceOf(this), this.#loadController.signal);
    this.#lease = lease;
    this.#generator = generator;
    this.#tell("gpt2-ready", { info: generator.info });
    return generator;
  }

  async #suggest(area: HTMLTextAreaElement, signal: AbortSignal): Promise<void> {
    const { prompt, spaces } = promptBefore(area.value.slice(0, area.selectionEnd));
    if (prompt === "" || signal.aborted) return;
    try {
      const generator = await this.#model();
      // If typing went on while the model was loading, a later run suggests.
      if (signal.aborted) return;
      this.#enter("generating");
      const stream = generator.generate(prompt, {
        max_new_tokens: 12,
        do_sample: false,
        ...optionsOf(this),
        ...this.options,
        // A suggestion always ends with its line.
        stop: ["\n", ...[this.options.stop ?? optionsOf(this).stop ?? []].flat()],
        signal,
      });
      // Both are awaited together, since both reject when a run fails.
      const [result] = await Promise.all([stream.result, this.#follow(stream, area, spaces, signal)]);
      this.#tell("gpt2-done", result);
      if (signal.aborted) return;
      const text = this.#ghost.text;
      this.#enter(text === "" ? "ready" : "suggesting");
      if (text !== "") this.#announcer.textContent = `Suggestion: ${text.trim()}. Tab accepts, Escape dismisses.`;
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    }
  }

  async #follow(
    stream: GenerationStream,
    area: HTMLTextAreaElement,
    spaces: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    let generated = "";
    let whole = false;
    for await (const chunk of stream) {
      if (signal.aborted || whole) continue;
      generated += chunk.text;
      const next = continuation(generated, spaces);
      whole = next.whole;
      this.#ghost.show(area, next.text);
      this.#tell("gpt2-chunk", chunk);
      if (whole) stream.interrupt();
    }
  }

  #fail(error: unknown): void {
    this.dismiss();
    if (isDeviceLost(error) && this.#lease) discard(this.#lease);
    this.#giveBack();
    this.#enter("failed");
    const said = `No suggestions: ${explain(error).title}.`;
    if (this.#area) this.#ghost.note(this.#area, said);
    this.#announcer.textContent = said;
    this.#tell("gpt2-error", { error });
  }

  #letGo(): void {
    this.#loadController.abort();
    this.dismiss();
    this.#giveBack();
  }

  #giveBack(): void {
    const lease = this.#lease;
    this.#lease = null;
    this.#generator = null;
    if (!lease) return;
    // The generator is given back only when the run that uses it has ended.
    this.#running.then(() => release(lease)).catch((error: unknown) => this.#tell("gpt2-error", { error }));
  }

  /** Enters the state in which nothing is suggested and nothing has failed. */
  #rest(): void {
    this.#enter(this.#loading ? "loading" : this.#generator ? "ready" : "idle");
    if (this.#area && !this.#loading) this.#ghost.note(this.#area, "");
  }

  #enter(state: AutocompleteState): void {
    this.setAttribute("state", state);
  }

  #tell(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
