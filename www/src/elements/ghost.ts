/** Grey text exactly where a textarea would show it. */

import { UNSEEN_STYLE } from "./unseen.js";

/** Everything that decides where a textarea breaks its lines and puts its characters. */
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
.ghost { color: var(--gpt2-ghost-color, color-mix(in srgb, var(--_ink) 62%, transparent)); }
.note {
  position: absolute;
  right: 0;
  bottom: 0;
  max-width: 100%;
  padding: 0.1em 0.5em;
  background: var(--_ground);
  color: color-mix(in srgb, var(--_ink) 75%, transparent);
  font: 0.8rem/1.5 system-ui, sans-serif;
}
${UNSEEN_STYLE}`;

/** A transparent copy of a textarea's text over it, in which only the suggestion has a colour. */
export class Ghost {
  /** Goes into a shadow tree with `GHOST_STYLE`. */
  readonly box = document.createElement("div");
  readonly #lines = document.createElement("div");
  readonly #before = document.createElement("span");
  readonly #text = document.createElement("span");
  readonly #after = document.createElement("span");
  readonly #note = document.createElement("span");

  constructor() {
    this.box.className = "box";
    this.box.setAttribute("part", "overlay");
    // Hidden from screen readers: it repeats the textarea's text. Suggestions and notes are announced elsewhere.
    this.box.setAttribute("aria-hidden", "true");
    this.#lines.className = "lines";
    this.#text.className = "ghost";
    this.#text.setAttribute("part", "ghost");
    this.#note.className = "note";
    this.#note.setAttribute("part", "note");
    this.#lines.append(this.#before, this.#text, this.#after);
    this.box.append(this.#lines, this.#note);
    this.#lines.hidden = this.#note.hidden = this.box.hidden = true;
  }

  /** The suggestion that is shown; empty when there is none. */
  get text(): string {
    return this.#text.textContent ?? "";
  }

  /** Shows `text` at the caret of `area`; the empty text hides. */
  show(area: HTMLTextAreaElement, text: string): void {
    this.#lines.hidden = text === "";
    this.#before.textContent = text === "" ? "" : area.value.slice(0, area.selectionEnd);
    this.#text.textContent = text;
    this.#after.textContent = text === "" ? "" : area.value.slice(area.selectionEnd);
    this.#show(area);
  }

  /** Shows a remark in the corner of `area`; the empty text hides. */
  note(area: HTMLTextAreaElement, text: string): void {
    this.#note.hidden = text === "";
    this.#note.textContent = text;
    this.#show(area);
  }

  #show(area: HTMLTextAreaElement): void {
    this.box.hidden = this.#lines.hidden && this.#note.hidden;
    this.place(area);
  }

  /** Lays the overlay over `area` anew, wherever that has moved, scrolled or been resized to. */
  place(area: HTMLTextAreaElement): void {
    if (this.box.hidden) return;
    const style = getComputedStyle(area);
    for (const property of COPIED) this.#lines.style.setProperty(property, style.getPropertyValue(property));
    // A textarea wraps its lines also where `white-space` is `normal`.
    if (!style.whiteSpace.includes("nowrap") && style.whiteSpace !== "pre") this.#lines.style.whiteSpace = "pre-wrap";
    // `clientWidth` is the room for the lines and the padding, without borders and scroll bar.
    Object.assign(this.box.style, {
      width: `${area.clientWidth}px`,
      height: `${area.clientHeight}px`,
      left: "0",
      top: "0",
    });
    this.box.style.setProperty("--_ink", style.color);
    this.box.style.setProperty("--_ground", style.backgroundColor);
    const zero = this.box.getBoundingClientRect();
    const there = area.getBoundingClientRect();
    this.box.style.left = `${there.left + area.clientLeft - zero.left}px`;
    this.box.style.top = `${there.top + area.clientTop - zero.top}px`;
    this.#lines.style.transform = `translate(${-area.scrollLeft}px, ${-area.scrollTop}px)`;
  }
}
