/** Grey text exactly where a field would show it. */

import { type Caret, caretRect, type FieldElement, isControl } from "./field.js";
import { UNSEEN_STYLE } from "./unseen.js";

/** Everything that decides where a field breaks its lines and puts its characters. */
const COPIED = [
  "direction",
  "font-family",
  "font-feature-settings",
  "font-kerning",
  "font-optical-sizing",
  "font-size",
  "font-size-adjust",
  "font-stretch",
  "font-style",
  "font-variant",
  "font-variation-settings",
  "font-weight",
  "hyphens",
  "letter-spacing",
  "line-break",
  "line-height",
  "overflow-wrap",
  "tab-size",
  "text-align",
  "text-align-last",
  "text-indent",
  "text-rendering",
  "text-transform",
  "white-space",
  "word-break",
  "word-spacing",
  "padding-top",
  "padding-right",
  "padding-bottom",
  "padding-left",
] as const;

/** For the shadow tree that a ghost's box is put into. The host has no size, so that it takes no place in the page. */
export const GHOST_STYLE = `
:host {
  position: absolute;
  left: 0;
  top: 0;
  width: 0;
  height: 0;
  pointer-events: none;
  z-index: var(--gpt2-ghost-z-index, 1);
}
[hidden] { display: none !important; }
.box { position: absolute; overflow: hidden; color: transparent; }
.lines { box-sizing: border-box; width: 100%; min-height: 100%; }
.ghost { color: var(--gpt2-ghost-color, color-mix(in srgb, var(--_ink) 68%, transparent)); }
.note, .chip {
  position: absolute;
  inset-inline-end: 0;
  bottom: 0;
  max-width: 100%;
  padding: 0.1em 0.5em;
  background: var(--_ground);
  color: color-mix(in srgb, var(--_ink) 75%, transparent);
  font: 0.8rem/1.5 system-ui, sans-serif;
}
.chip {
  min-height: 2.75rem;
  max-width: calc(100% - 0.6rem);
  margin: 0.3rem;
  padding: 0.3em 1em;
  overflow: hidden;
  border: 1px solid currentColor;
  border-radius: 1.5rem;
  background: Canvas;
  color: CanvasText;
  font: inherit;
  pointer-events: auto;
  text-overflow: ellipsis;
  white-space: nowrap;
}
${UNSEEN_STYLE}`;

/** A transparent copy of a field's text over it, in which only the suggestion has a colour. */
export class Ghost {
  /** Goes into a shadow tree with `GHOST_STYLE`. */
  readonly box = document.createElement("div");
  /** What a finger taps to take the suggestion. */
  readonly chip = document.createElement("button");
  readonly #lines = document.createElement("div");
  readonly #before = document.createElement("span");
  readonly #text = document.createElement("span");
  readonly #after = document.createElement("span");
  readonly #note = document.createElement("span");
  #caret: Caret = { before: "", after: "" };
  #suggested = "";

  constructor() {
    this.box.className = "box";
    this.box.setAttribute("part", "overlay");
    this.#lines.className = "lines";
    // Hidden from screen readers: it repeats the field's text. Suggestions and notes are announced elsewhere.
    this.#lines.setAttribute("aria-hidden", "true");
    this.#note.setAttribute("aria-hidden", "true");
    this.#text.className = "ghost";
    this.#text.setAttribute("part", "ghost");
    this.#note.className = "note";
    this.#note.setAttribute("part", "note");
    this.chip.className = "chip";
    this.chip.type = "button";
    this.chip.tabIndex = -1;
    this.chip.setAttribute("part", "chip");
    this.#lines.append(this.#before, this.#text, this.#after);
    this.box.append(this.#lines, this.#note, this.chip);
    this.#lines.hidden = this.#note.hidden = this.box.hidden = this.chip.hidden = true;
  }

  /** The suggestion that is shown; empty when there is none. */
  get text(): string {
    return this.#suggested;
  }

  /** Shows `text` at the caret of a field; the empty text hides. `chip`: what the chip says, where there is one. */
  show(field: FieldElement, caret: Caret, text: string, chip = ""): void {
    this.#caret = caret;
    this.#suggested = text;
    this.#lines.hidden = text === "";
    this.chip.hidden = text === "" || chip === "";
    this.chip.textContent = chip;
    this.#write(field, text);
    this.#show(field);
    this.#fit(field);
  }

  /** Shows a remark in the corner of a field; the empty text hides. */
  note(field: FieldElement, text: string): void {
    this.#note.hidden = text === "";
    this.#note.textContent = text;
    this.#show(field);
  }

  #write(field: FieldElement, text: string): void {
    const isCopied = isControl(field) && text !== "";
    this.#before.textContent = isCopied ? this.#caret.before : "";
    this.#text.textContent = text;
    this.#after.textContent = isCopied ? this.#caret.after : "";
  }

  /** Before other lines only as much is seen as fits into the caret's own, since the field does not make room. */
  #fit(field: FieldElement): void {
    if (this.#suggested === "" || this.#caret.after.trim() === "") return;
    let seen = this.#suggested;
    while (this.#text.getClientRects().length > 1 && /\S\s+\S/.test(seen)) {
      seen = seen.replace(/\s+\S+\s*$/, "");
      this.#write(field, `${seen} …`);
    }
  }

  #show(field: FieldElement): void {
    this.box.hidden = this.#lines.hidden && this.#note.hidden;
    this.place(field);
  }

  /** Lays the overlay over a field anew, wherever that has moved, scrolled or been resized to. */
  place(field: FieldElement): void {
    if (this.box.hidden) return;
    const style = getComputedStyle(field);
    const lines = this.#lines.style;
    for (const property of COPIED) lines.setProperty(property, style.getPropertyValue(property));
    // A textarea wraps its lines also where `white-space` is `normal`.
    if (field instanceof HTMLTextAreaElement && !style.whiteSpace.includes("nowrap") && style.whiteSpace !== "pre")
      lines.whiteSpace = "pre-wrap";
    if (field instanceof HTMLInputElement) {
      // An input has one line, in the middle of its height.
      lines.whiteSpace = "pre";
      const inner = field.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
      lines.lineHeight = `${inner}px`;
    }
    // `clientWidth` is the room for the lines and the padding, without borders and scroll bar.
    Object.assign(this.box.style, {
      width: `${field.clientWidth}px`,
      height: `${field.clientHeight}px`,
      left: "0",
      top: "0",
    });
    this.box.style.setProperty("--_ink", style.color);
    this.box.style.setProperty("--_ground", style.backgroundColor);
    const zero = this.box.getBoundingClientRect();
    // An ancestor may be scaled: what is on the screen is so many times as large as what is set here.
    const scale = zero.width / (this.box.offsetWidth || 1) || 1;
    const there = field.getBoundingClientRect();
    this.box.style.left = `${(there.left - zero.left) / scale + field.clientLeft}px`;
    this.box.style.top = `${(there.top - zero.top) / scale + field.clientTop}px`;
    lines.transform = isControl(field) ? `translate(${-field.scrollLeft}px, ${-field.scrollTop}px)` : "";
    if (!isControl(field)) this.#placeAtCaret(field, there, scale);
  }

  /** In an element that can be edited, the ghost begins at the caret and goes on below the element's own edge. */
  #placeAtCaret(field: HTMLElement, there: DOMRect, scale: number): void {
    const caret = caretRect(field);
    if (!caret) return;
    const style = getComputedStyle(field);
    const isRtl = style.direction === "rtl";
    const x = (isRtl ? there.right - caret.right : caret.left - there.left) / scale;
    const indent = x - parseFloat(isRtl ? style.paddingRight : style.paddingLeft) - field.clientLeft;
    this.#lines.style.paddingTop = "0";
    this.#lines.style.whiteSpace = "pre-wrap";
    this.#lines.style.textIndent = `${indent}px`;
    this.#lines.style.transform = `translateY(${(caret.top - there.top) / scale - field.clientTop}px)`;
    this.#lines.style.lineHeight = style.lineHeight === "normal" ? `${caret.height / scale}px` : style.lineHeight;
  }
}
