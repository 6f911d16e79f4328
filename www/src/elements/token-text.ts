/** Pieces of a text as coloured spans, of which one or a stretch can be chosen by pointer and keyboard. */

import { bandOf, type Piece } from "./pieces.js";

/** What the colours tell. `difference`: of another model's bits. */
export type ColourMode = "rank" | "bits" | "entropy";

/** So many bits have the full colour: a token of one in 65,536. */
const FULL_BITS = 16;
/** A difference of so many bits has the full colour. */
const FULL_DIFFERENCE = 4;

/** What the text tells its element. */
export interface TokenTextEvents {
  /** Pieces were chosen: from the first to the last, both in it; null: none. `byKey`: with the keyboard. */
  chosen(stretch: readonly [number, number] | null, byKey: boolean): void;
  /** The pointer is over a piece, or over none. */
  pointed(index: number | null): void;
}

/** The spans in a box. */
export class TokenText {
  readonly #box: HTMLElement;
  readonly #events: TokenTextEvents;
  #pieces: readonly Piece[] = [];
  #spans: HTMLSpanElement[] = [];
  #anchor = -1;
  #focus = -1;

  constructor(box: HTMLElement, events: TokenTextEvents) {
    [this.#box, this.#events] = [box, events];
    box.addEventListener("keydown", (event) => this.#onKey(event));
    box.addEventListener("pointerdown", (event) => {
      const index = this.#indexOf(event.target);
      if (index < 0 || event.button !== 0) return;
      this.choose(event.shiftKey && this.#anchor >= 0 ? this.#anchor : index, index);
    });
    box.addEventListener("pointermove", (event) => {
      const index = this.#indexOf(event.target);
      // A finger that moves scrolls; a mouse with its button held chooses a stretch.
      if (index >= 0 && event.buttons === 1 && event.pointerType === "mouse" && index !== this.#focus)
        this.choose(this.#anchor, index);
      else this.#events.pointed(index < 0 ? null : index);
    });
    box.addEventListener("pointerleave", () => this.#events.pointed(null));
    box.addEventListener("focus", () => {
      if (this.#focus < 0 && this.#pieces.length > 0) this.#mark(0, 0);
    });
  }

  /** The stretch that is chosen: from the first to the last, both in it. */
  get chosen(): readonly [number, number] | null {
    return this.#focus < 0 ? null : [Math.min(this.#anchor, this.#focus), Math.max(this.#anchor, this.#focus)];
  }

  /** Shows pieces, and behind them text that is in none yet. */
  show(pieces: readonly Piece[], rest: string): void {
    this.#pieces = pieces;
    this.#anchor = this.#focus = -1;
    this.#spans = pieces.map(({ text }, index) => {
      const span = document.createElement("span");
      span.className = "token";
      span.id = `token-${index}`;
      span.setAttribute("role", "option");
      span.setAttribute("aria-selected", "false");
      span.setAttribute("part", "token");
      const ink = document.createElement("span");
      ink.className = "ink";
      const space = /^[ \t]*/.exec(text)?.[0] ?? "";
      ink.textContent = text.slice(space.length);
      // The space before a word is part of its token; it stays without colour, so that a line may break there.
      span.append(space, ink);
      if (text.includes("\n")) span.dataset.breaks = "";
      return span;
    });
    this.#box.removeAttribute("aria-activedescendant");
    this.#box.replaceChildren(...this.#spans, rest);
  }

  /** Colours the pieces. `differences`, where there are some, win over the mode. */
  colour(mode: ColourMode, differences: readonly (number | null)[] | null): void {
    for (const [index, span] of this.#spans.entries()) {
      const piece = this.#pieces[index];
      if (!piece) continue;
      for (const name of ["band", "hot", "cool", "number"]) delete span.dataset[name];
      const isRank = mode === "rank" && !differences;
      const value = differences ? (differences[index] ?? null) : mode === "entropy" ? piece.entropy : piece.bits;
      if (value !== null) span.dataset.number = (Math.round(value * 10) / 10 + 0).toFixed(1).replace("-", "−");
      if (isRank) {
        span.dataset.band = String(bandOf(piece.rank));
        if (piece.rank !== null) span.dataset.number = String(piece.rank + 1);
      } else if (value !== null) {
        const share = Math.min(1, Math.abs(value) / (differences ? FULL_DIFFERENCE : FULL_BITS));
        span.style.setProperty("--share", share.toFixed(3));
        span.dataset[value > 0 && (differences || mode === "bits") ? "hot" : "cool"] = "";
      }
    }
  }

  /** Shows a weight at each piece, 0 to 1, as a bar; null shows none. */
  weigh(weights: readonly number[] | null): void {
    for (const [index, span] of this.#spans.entries()) {
      const weight = weights?.[index];
      if (weight === undefined || weight < 0.005) delete span.dataset.weight;
      else {
        span.dataset.weight = "";
        span.style.setProperty("--weight", weight.toFixed(3));
      }
    }
  }

  /** Chooses the pieces from one to the other; −1 chooses none. */
  choose(anchor: number, focus: number, byKey = false): void {
    this.#mark(anchor, focus);
    this.#events.chosen(this.chosen, byKey);
  }

  #mark(anchor: number, focus: number): void {
    [this.#anchor, this.#focus] = [anchor, focus];
    const [from, to] = this.chosen ?? [-1, -1];
    for (const [index, span] of this.#spans.entries()) {
      const isIn = index >= from && index <= to && from >= 0;
      if ((span.getAttribute("aria-selected") === "true") !== isIn) span.setAttribute("aria-selected", String(isIn));
      span.classList.toggle("at", index === focus);
    }
    if (focus >= 0) this.#box.setAttribute("aria-activedescendant", `token-${focus}`);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #indexOf(target: EventTarget | null): number {
    const span = target instanceof Element ? target.closest<HTMLSpanElement>(".token") : null;
    return span ? this.#spans.indexOf(span) : -1;
  }

  /** The piece above or below another. */
  #inLine(from: number, step: 1 | -1): number {
    const own = this.#spans[from]?.getClientRects()[0];
    if (!own) return from;
    const middle = own.left + own.width / 2;
    let [best, bestAway, line] = [from, Infinity, null as number | null];
    for (let i = from + step; i >= 0 && i < this.#spans.length; i += step) {
      const rect = this.#spans[i]?.getClientRects()[0];
      if (!rect || Math.abs(rect.top - own.top) < 2) continue;
      line ??= rect.top;
      if (Math.abs(rect.top - line) > 2) break;
      const away = Math.abs(rect.left + rect.width / 2 - middle);
      if (away < bestAway) [best, bestAway] = [i, away];
    }
    return best;
  }

  #onKey(event: KeyboardEvent): void {
    const last = this.#spans.length - 1;
    if (last < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Math.max(0, this.#focus);
    const isRtl = getComputedStyle(this.#box).direction === "rtl";
    const keys: Record<string, () => number> = {
      ArrowRight: () => at + (isRtl ? -1 : 1),
      ArrowLeft: () => at + (isRtl ? 1 : -1),
      ArrowDown: () => this.#inLine(at, 1),
      ArrowUp: () => this.#inLine(at, -1),
      Home: () => 0,
      End: () => last,
    };
    const to = keys[event.key]?.();
    if (event.key === "Escape" && this.#focus >= 0) this.choose(-1, -1, true);
    else if (to === undefined) return;
    else {
      const focus = Math.min(last, Math.max(0, to));
      this.choose(event.shiftKey ? Math.max(0, this.#anchor) : focus, focus, true);
      this.#spans[focus]?.scrollIntoView({ block: "nearest" });
    }
    event.preventDefault();
  }
}
