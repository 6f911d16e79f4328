/**
 * The text: a textarea, so that every keyboard, input method and screen reader works with it as always, over a copy of
 * its text that shows the model's words in the second ink and knows where each word is on the screen.
 */

import { byId } from "../dom.js";
import { difference, type Mark, type TextTree } from "./tree.js";

const area = byId("text", HTMLTextAreaElement);
const mirror = byId("mirror", HTMLDivElement);

/** A word of the text, with the space before it, which belongs to it as GPT-2 reads it. */
export interface Word {
  start: number;
  end: number;
  text: string;
}

const WORD = / ?[\p{L}\p{M}\p{N}'’]+| ?[^\s\p{L}\p{M}\p{N}]+|\s/gu;

/** The word at a place of a text; null where there is none. */
export function wordAt(text: string, place: number): Word | null {
  for (const match of text.matchAll(WORD)) {
    const end = match.index + match[0].length;
    if (end > place && match.index <= place) return { start: match.index, end, text: match[0] };
    if (match.index > place) break;
  }
  return null;
}

/** The textarea with its copy. */
export class Editor {
  /** Told after each change by the person. */
  readonly #changed: () => void;
  /** The tree that it shows. */
  tree: TextTree;
  /** The text of the tree's current version. */
  #shown = "";
  #marks: Mark[] = [];

  constructor(tree: TextTree, changed: () => void) {
    this.tree = tree;
    this.#changed = changed;
    const record = (): void => {
      if (area.value === this.#shown) return;
      this.tree.type(difference(this.#shown, area.value, area.selectionEnd));
      this.#read();
      this.#changed();
    };
    area.addEventListener("input", (event) => {
      // What an input method composes is recorded when it is whole; it is drawn at once.
      if (event instanceof InputEvent && event.isComposing) this.#draw(area.value, []);
      else record();
    });
    area.addEventListener("compositionend", record);
  }

  get area(): HTMLTextAreaElement {
    return area;
  }

  get text(): string {
    return this.#shown;
  }

  get caret(): number {
    return area.selectionEnd;
  }

  get marks(): readonly Mark[] {
    return this.#marks;
  }

  /** Shows the tree's current version, with the caret at a place, by default at its change. */
  show(caret?: number): void {
    this.#read();
    area.value = this.#shown;
    const { at, inserted } = this.tree.current;
    const place = Math.min(caret ?? at + inserted.length, this.#shown.length);
    area.setSelectionRange(place, place);
  }

  /** Shows what has come to the end of the current version. The end of the page stays in view if it is. */
  showGrowth(): void {
    const scroller = document.documentElement;
    const isAtEnd = scroller.scrollHeight - scrollY - innerHeight < 120;
    this.show();
    if (isAtEnd) scrollTo({ top: scroller.scrollHeight, behavior: "instant" });
  }

  /** Where a part of the text is on the screen. */
  rectOf(start: number, end: number): DOMRect {
    const range = document.createRange();
    range.setStart(...this.#pointAt(start, false));
    range.setEnd(...this.#pointAt(end, true));
    return [...range.getClientRects()].find(({ width }) => width > 0) ?? range.getBoundingClientRect();
  }

  /** Sets a part of the text off, as the word whose rivals are shown; null ends it. */
  setOff(part: Mark | null): void {
    this.#draw(this.#shown, this.#marks, part);
  }

  #read(): void {
    const { text, marks } = this.tree.read();
    [this.#shown, this.#marks] = [text, marks];
    this.#draw(text, marks);
  }

  #draw(text: string, marks: readonly Mark[], part: Mark | null = null): void {
    const nodes: (Node | string)[] = [];
    let at = 0;
    const upTo = (end: number): void => {
      if (end > at) nodes.push(text.slice(at, end));
      at = Math.max(at, end);
    };
    const cuts: [Mark, string][] = marks.map((mark) => [mark, "by-model"]);
    if (part) cuts.push([part, "picked"]);
    for (const [[from, end], className] of this.#disjoint(cuts)) {
      // A space where the ink begins may hang over the end of a line, where it would look like a stain.
      const start = from + (/^ */.exec(text.slice(from, end))?.[0].length ?? 0);
      upTo(start);
      const mark = document.createElement("mark");
      mark.className = className;
      mark.textContent = text.slice(start, end);
      nodes.push(mark);
      at = end;
    }
    upTo(text.length);
    // The copy's last line counts also while it is empty.
    mirror.replaceChildren(...nodes, "\u200b");
  }

  /** The parts in their order; the picked one cuts what it lies in. */
  #disjoint(parts: [Mark, string][]): [Mark, string][] {
    const picked = parts.find(([, name]) => name === "picked");
    if (!picked) return parts;
    const [[from, to]] = picked;
    const rest = parts.filter((part) => part !== picked);
    const cut = rest.flatMap(([[start, end], name]): [Mark, string][] => [
      [[start, Math.min(end, from)], name],
      [[Math.max(start, to), end], name],
    ]);
    const inside = rest.some(([[start, end]]) => start <= from && end >= to);
    const all = [...cut.filter(([[start, end]]) => end > start), [picked[0], inside ? "by-model picked" : "picked"]];
    return (all as [Mark, string][]).sort((a, b) => a[0][0] - b[0][0]);
  }

  /** The node of the copy at a place of the text: the one that begins there or, for an end, that ends there. */
  #pointAt(place: number, isEnd: boolean): [Node, number] {
    const walker = document.createTreeWalker(mirror, NodeFilter.SHOW_TEXT);
    let left = place;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const { length } = node as Text;
      if (left < length || (isEnd && left === length)) return [node, left];
      left -= length;
    }
    return [mirror, mirror.childNodes.length];
  }
}
