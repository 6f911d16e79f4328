/** `<gpt2-surprise>`. */

import { isAbort } from "../api/errors.js";
import type { Generator, Score } from "../api/index.js";
import { LOAD_ATTRIBUTES } from "./attributes.js";
import { ElementBase, ElementState, takeOver } from "./element-base.js";
import { isDeviceLost } from "./explain.js";
import { shareText } from "./figures.js";
import { Hold } from "./hold.js";
import { SURPRISE_MESSAGES, type SurpriseMessages } from "./messages.js";
import { type Piece, piecesOf } from "./pieces.js";
import { buildSurpriseView } from "./surprise-view.js";
import { type ColourMode, TokenText } from "./token-text.js";

/** Where a `<gpt2-surprise>` stands; style sheets see it as `:state(…)`. */
export type SurpriseState = "idle" | "loading" | "scoring" | "ready" | "failed";

const N_RIVALS = 6;

/**
 * A text in which each token is coloured by how much it surprised the model.
 *
 * ```html
 * <gpt2-surprise model="demo" preload>Once upon a time there was a volcano.</gpt2-surprise>
 * ```
 *
 * The text is the element's own, or its property `value`. Without `preload` a button loads the model; a `generator`
 * that is set reads at once. A token tells its bits, its rank, how undecided the model was, and what was likelier:
 * under the pointer, by a tap, or with the arrow keys. With Shift, or by drawing over it, a stretch is chosen. Bands
 * differ by their underlines too, and `numbers` writes the figures below the tokens.
 *
 * States for style sheets: `:state(loading)`, `scoring`, `ready`, `failed`. All events bubble and are composed.
 *
 * @tagname gpt2-surprise
 * @attr {string} model - "demo" (the default), a Hugging Face id, or the URL of a folder
 * @attr {"auto"|"webgpu"|"wasm"} device - what the model runs on
 * @attr {"auto"|"fp32"|"fp16"|"q8"|"q4"} dtype - the format of the weights
 * @attr {string} revision - the branch, tag or commit of a model on a hub
 * @attr {boolean} preload - loads and reads at once, not after a press of the button
 * @attr {"rank"|"bits"|"entropy"} mode - what the colours tell; "rank" by default
 * @attr {boolean} numbers - writes the figure below each token
 * @attr {boolean} quiet - tells a screen reader nothing by itself
 * @fires {CustomEvent<{ info: GeneratorInfo }>} gpt2-ready - the model is loaded
 * @fires {CustomEvent<{ score: Score, pieces: Piece[] }>} gpt2-scored - the text has been read
 * @fires {CustomEvent<{ stretch: [number, number] | null }>} gpt2-select - pieces were chosen: the first and the last
 * @fires {CustomEvent<{ error: unknown }>} gpt2-error - loading or reading failed
 * @csspart text - the text
 * @csspart token - each token
 * @csspart note - loading and failure, in words
 * @csspart button - the button
 * @csspart load - loads the model
 * @csspart legend - what the colours mean
 * @csspart detail - what is told of a token
 * @csspart rivals - what was likelier
 * @cssprop --gpt2-accent - focus, weights and the button
 * @cssprop --gpt2-muted - what is less important
 * @cssprop --gpt2-wash - behind rivals
 * @cssprop --gpt2-bad - failures
 * @cssprop --gpt2-radius - of corners
 * @cssprop --gpt2-band-1 - among the 100 likeliest
 * @cssprop --gpt2-band-2 - among the 1000 likeliest
 * @cssprop --gpt2-band-3 - beyond
 * @cssprop --gpt2-hot - many bits
 * @cssprop --gpt2-cool - entropy, and less surprised than another model
 */
export class Gpt2SurpriseElement extends ElementBase {
  static readonly observedAttributes: readonly string[] = [...LOAD_ATTRIBUTES, "mode", "numbers"];

  readonly #view = buildSurpriseView(this.attachShadow({ mode: "open", delegatesFocus: true }));
  readonly #state: ElementState<SurpriseState>;
  readonly #hold = new Hold(this, {
    progress: (event) => {
      if (event.status === "progress_total") this.#note(this.#messages.progress(event));
    },
    loaded: ({ info }) => this.#tell("gpt2-ready", { info }),
    failed: (error) => this.#tell("gpt2-error", { error }),
  });
  readonly #tokens: TokenText;
  #messages: SurpriseMessages = SURPRISE_MESSAGES;
  #value: string | null = null;
  #pieces: Piece[] = [];
  /** Whether they were given by the page, and not read by a model. */
  #isGiven = false;
  #differences: readonly (number | null)[] | null = null;
  /** The reading under way; aborted when it is no longer wanted. */
  #run = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor() {
    super();
    this.#state = new ElementState<SurpriseState>(this.attachInternals(), "idle");
    this.#tokens = new TokenText(this.#view.text, {
      chosen: (stretch, byKey) => {
        this.#describe(stretch?.[1] ?? null);
        if (byKey) this.#say(this.#view.said.textContent ?? "");
        this.#tell("gpt2-select", { stretch });
      },
      pointed: (index) => this.#describe(index ?? this.#tokens.chosen?.[1] ?? null),
    });
    this.#view.load.addEventListener("click", () => void this.score());
  }

  /** The browser calls it when the element comes into a document. */
  connectedCallback(): void {
    takeOver(this, ["value", "pieces", "mode", "generator", "messages"]);
    this.#label();
    this.#draw();
    if (this.hasAttribute("preload") || this.#hold.generator) void this.score();
  }

  /** The browser calls it when the element leaves its document. */
  disconnectedCallback(): void {
    // An element that is moved is disconnected and connected again at once, and must keep its model.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#run.abort();
      this.#hold.letGo(this.#running);
      this.#state.enter("idle");
    });
  }

  /** The browser calls it when an observed attribute changes. */
  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after || !this.isConnected) return;
    if (name === "mode" || name === "numbers") {
      this.#colour();
      return;
    }
    this.#run.abort();
    this.#hold.letGo(this.#running);
    this.#pieces = [];
    this.#draw();
    if (this.hasAttribute("preload")) void this.score();
  }

  /** Where the element stands. */
  get state(): SurpriseState {
    return this.#state.now;
  }

  /** The text. */
  get value(): string {
    return this.#value ?? (this.textContent ?? "").trim();
  }
  /** Replaces the text. */
  set value(text: string) {
    if (text === this.value) return;
    [this.#value, this.#isGiven] = [text, false];
    this.#run.abort();
    // What stands before the change is as surprising as it was.
    const kept = this.#pieces.findIndex((piece) => text.slice(piece.start, piece.end) !== piece.text);
    if (kept >= 0) this.#pieces = this.#pieces.slice(0, kept);
    this.#differences = null;
    this.#draw();
    if (this.isConnected && this.#hold.generator) void this.score();
  }

  /** What the colours tell. */
  get mode(): ColourMode {
    const mode = this.getAttribute("mode");
    return mode === "bits" || mode === "entropy" ? mode : "rank";
  }
  /** Changes what the colours tell. */
  set mode(mode: ColourMode) {
    this.setAttribute("mode", mode);
  }

  /** The model that is used. One that is set is used instead of the attributes' one, and not disposed of. */
  get generator(): Generator | null {
    return this.#hold.generator;
  }
  /** Uses this one from now on; null goes back to the attributes’ one. */
  set generator(generator: Generator | null) {
    this.#run.abort();
    this.#hold.give(generator);
    if (!this.#isGiven) this.#pieces = [];
    this.#differences = null;
    this.#state.enter("idle");
    this.#note("");
    this.#draw();
    if (generator && this.isConnected) void this.score();
  }

  /** What the element says; each text that is set replaces its own. */
  get messages(): SurpriseMessages {
    return this.#messages;
  }
  /** Replaces some of the words, or all. */
  set messages(messages: Partial<SurpriseMessages>) {
    this.#messages = { ...SURPRISE_MESSAGES, ...messages };
    this.#label();
    this.#colour();
  }

  /** The text as it was read: tokens, or several where a character is spread over them. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }
  /** Shows what was read before, such as a stored example, until a model reads the text: pieces that make it up. */
  set pieces(pieces: readonly Piece[]) {
    this.#run.abort();
    this.#value = pieces.map(({ text }) => text).join("");
    [this.#pieces, this.#isGiven] = [[...pieces], true];
    this.#differences = null;
    this.#draw();
  }

  /** The pieces that are chosen: the first and the last. */
  get stretch(): readonly [number, number] | null {
    return this.#tokens.chosen;
  }

  /** Colours by how much more surprised the model was than another: bits for each piece; null ends that. */
  compare(differences: readonly (number | null)[] | null): void {
    this.#differences = differences;
    this.#colour();
  }

  /** Shows a weight at each piece, from 0 to 1; null shows none. */
  weigh(weights: readonly number[] | null): void {
    this.#tokens.weigh(weights);
  }

  /** Chooses a piece, as a press of it does; null chooses none. */
  choose(index: number | null): void {
    this.#tokens.choose(index ?? -1, index ?? -1);
  }

  /** Reads the text, with a model that is loaded if need be. Null where that failed; `gpt2-error` then says why. */
  async score(): Promise<Score | null> {
    this.#run.abort();
    this.#run = new AbortController();
    const { signal } = this.#run;
    let found: Score | null = null;
    const before = this.#running;
    const run = (async (): Promise<void> => {
      await before;
      if (!signal.aborted) found = await this.#read(signal);
    })();
    this.#running = run;
    await run;
    return found;
  }

  async #read(signal: AbortSignal): Promise<Score | null> {
    const { value } = this;
    this.#view.load.hidden = true;
    try {
      if (!this.#hold.generator) this.#state.enter("loading");
      const generator = await this.#hold.load();
      if (signal.aborted) return null;
      if (value === "") {
        this.#note("");
        this.#state.enter("ready");
        return null;
      }
      this.#state.enter("scoring");
      if (this.#pieces.length === 0) this.#note(this.#messages.scoring);
      const score = await generator.score(value, { signal });
      const pieces = await piecesOf(generator, score);
      if (signal.aborted) return null;
      [this.#pieces, this.#isGiven] = [pieces, false];
      this.#note("");
      this.#draw();
      this.#state.enter("ready");
      this.#say(this.#messages.scored(score.tokens.length, score.perplexity));
      this.#tell("gpt2-scored", { score, pieces });
      return score;
    } catch (error) {
      if (signal.aborted || isAbort(error)) return null;
      if (isDeviceLost(error)) this.#hold.lost();
      this.#state.enter("failed");
      this.#note(this.#messages.failed(error), true);
      this.#view.load.hidden = false; // tries again
      this.#tell("gpt2-error", { error });
      return null;
    }
  }

  #label(): void {
    this.#view.text.setAttribute("aria-label", this.#messages.label);
    this.#view.load.textContent = this.#messages.load;
  }

  /** Shows the text: what has been read in colour, the rest as it is. */
  #draw(): void {
    const { text, load, detail, legend } = this.#view;
    const read = this.#pieces.at(-1)?.end ?? 0;
    this.#tokens.show(this.#pieces, this.value.slice(read));
    // Plain text is no list of choices.
    if (this.#pieces.length > 0) text.setAttribute("role", "listbox");
    else text.removeAttribute("role");
    legend.hidden = detail.hidden = this.#pieces.length === 0;
    load.hidden = this.hasAttribute("preload") || this.#hold.generator !== null || this.state !== "idle";
    this.#describe(null);
    this.#colour();
  }

  #colour(): void {
    this.#tokens.colour(this.mode, this.#differences);
    this.#view.frame.classList.toggle("numbered", this.hasAttribute("numbers"));
    const { bands, few, many, less, more } = this.#messages;
    const share = (n: number, name: string) => `color-mix(in srgb, var(${name}) ${100 * n}%, transparent)`;
    const name = this.mode === "entropy" ? "--_cool" : "--_hot";
    const swatches: [string, string][] = this.#differences
      ? [
          [share(1, "--_cool"), less],
          [share(1, "--_hot"), more],
        ]
      : this.mode === "rank"
        ? bands.map((text, band): [string, string] => [band === 0 ? "transparent" : `var(--_band-${band})`, text])
        : [
            [share(0, name), few],
            [share(1, name), many],
          ];
    const items = swatches.map(([background, text]) => {
      const swatch = document.createElement("i");
      swatch.style.background = background;
      const item = document.createElement("li");
      item.append(swatch, text);
      return item;
    });
    this.#view.legend.replaceChildren(...items);
  }

  /** Tells of a piece what is known of it. */
  #describe(index: number | null): void {
    const { said, rivals } = this.#view;
    const piece = index === null ? undefined : this.#pieces[index];
    rivals.replaceChildren();
    said.textContent = "";
    if (!piece) return;
    said.textContent = piece.bits === null ? this.#messages.first : this.#messages.piece(piece);
    for (const { text, logprob } of piece.rivals.slice(0, N_RIVALS)) {
      const item = document.createElement("li");
      const share = document.createElement("span");
      share.textContent = ` ${shareText(Math.exp(logprob))}`;
      item.append(text.replaceAll("\n", "⏎"), share);
      rivals.append(item);
    }
  }

  #note(text: string, isFailure = false): void {
    const { note } = this.#view;
    note.textContent = text;
    note.hidden = text === "";
    note.classList.toggle("failed", isFailure);
  }

  #say(text: string): void {
    if (!this.hasAttribute("quiet")) this.#view.announcer.textContent = text;
  }

  #tell(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
