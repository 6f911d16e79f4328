/** The texts of one prompt, of which one is shown. Used by `<gpt2-generator>`. */

import { GrowingText } from "./growing-text.js";

/** Where they are shown. */
export interface ShownTextsView {
  completion: HTMLElement;
  output: HTMLElement;
  alternatives: HTMLElement;
  which: HTMLElement;
  previous: HTMLButtonElement;
  next: HTMLButtonElement;
}

/** Texts that grow, and the buttons between them. */
export class ShownTexts {
  readonly #view: ShownTextsView;
  /** What stands between the buttons. */
  readonly #which: (shown: number, n: number) => string;
  readonly #changed: () => void;
  #texts: string[] = [];
  #shown = 0;
  #growing: GrowingText | null = null;

  /** `changed` is called when another text is shown. */
  constructor(view: ShownTextsView, which: (shown: number, n: number) => string, changed: () => void) {
    [this.#view, this.#which, this.#changed] = [view, which, changed];
    view.previous.addEventListener("click", () => this.choose(this.#shown - 1));
    view.next.addEventListener("click", () => this.choose(this.#shown + 1));
  }

  /** All of them. */
  get all(): string[] {
    return [...this.#texts];
  }

  /** The one that is shown; empty where there is none. */
  get text(): string {
    return this.#texts[this.#shown] ?? "";
  }

  /** Forgets those of before and begins with `n` empty ones. */
  begin(n: number): void {
    this.#texts = Array<string>(n).fill("");
    this.#shown = 0;
    this.#show();
  }

  /** Lets one of them grow. */
  push(index: number, piece: string): void {
    this.#texts[index] += piece;
    if (index === this.#shown) this.#growing?.push(piece);
  }

  /** Shows all that has come, without waiting for a frame. */
  flush(): void {
    this.#growing?.show();
  }

  /** Shows one of them, from 0 on; nothing where there is none. */
  choose(index: number): void {
    if (index < 0 || index >= this.#texts.length) return;
    this.#shown = index;
    this.#show();
  }

  #show(): void {
    const { completion, output, alternatives, which, previous, next } = this.#view;
    const n = this.#texts.length;
    const text = document.createTextNode(this.text);
    completion.replaceChildren(text);
    this.#growing = new GrowingText(text, output);
    alternatives.hidden = n < 2;
    which.textContent = this.#which(this.#shown + 1, n);
    previous.disabled = this.#shown === 0;
    next.disabled = this.#shown >= n - 1;
    this.#changed();
  }
}
