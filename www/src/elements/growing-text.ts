/**
 * Text that grows in a box that scrolls. It is shown once in each frame, since the layout after a token can take longer
 * than a small model takes to write one. Used by the page and by the elements.
 */
export class GrowingText {
  readonly #text: Text;
  readonly #box: HTMLElement;
  readonly #onShown: () => void;
  #pending = "";
  #frame = 0;

  /** Grows `text`, which lies in `box`; `onShown` is called in each frame in which it has grown. */
  constructor(text: Text, box: HTMLElement, onShown = () => {}) {
    [this.#text, this.#box, this.#onShown] = [text, box, onShown];
  }

  push(piece: string): void {
    this.#pending += piece;
    this.#frame ||= requestAnimationFrame(() => this.show());
  }

  /** Shows what has come so far. Keeps the end in view, unless the reader has scrolled away from it. */
  show(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#pending === "") return;
    const box = this.#box;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
    this.#text.appendData(this.#pending);
    this.#pending = "";
    if (isAtEnd) box.scrollTop = box.scrollHeight;
    this.#onShown();
  }
}
