/** A field that a suggestion is for: a textarea, a one-line input, or an element that can be edited. */

/** What a `<gpt2-autocomplete>` can be for. */
export type FieldElement = HTMLTextAreaElement | HTMLInputElement | HTMLElement;

const TYPES = ["text", "search", "url", "email"];

/** Whether an element takes text. */
export function isField(element: Element | null): element is FieldElement {
  if (element instanceof HTMLTextAreaElement) return true;
  if (element instanceof HTMLInputElement) return TYPES.includes(element.type);
  return element instanceof HTMLElement && element.isContentEditable;
}

/** Whether an element is a textarea or an input. */
export function isControl(element: FieldElement): element is HTMLTextAreaElement | HTMLInputElement {
  return element instanceof HTMLTextAreaElement || element instanceof HTMLInputElement;
}

/** A text with a caret in it. */
export interface Caret {
  before: string;
  after: string;
}

function selectionIn(element: HTMLElement): Range | null {
  const selection = document.getSelection();
  if (!selection || selection.rangeCount === 0) return null;
  const range = selection.getRangeAt(0);
  return element.contains(range.endContainer) ? range : null;
}

/** The text on both sides of the caret; null where something is selected, or the caret is elsewhere. */
export function caretOf(element: FieldElement): Caret | null {
  if (isControl(element)) {
    const { value, selectionStart, selectionEnd, readOnly, disabled } = element;
    if (readOnly || disabled || selectionEnd === null || selectionStart !== selectionEnd) return null;
    return { before: value.slice(0, selectionEnd), after: value.slice(selectionEnd) };
  }
  const range = selectionIn(element);
  if (!range?.collapsed) return null;
  const part = document.createRange();
  part.selectNodeContents(element);
  part.setEnd(range.endContainer, range.endOffset);
  const before = textOf(part);
  part.selectNodeContents(element);
  part.setStart(range.endContainer, range.endOffset);
  return { before, after: textOf(part) };
}

/** The text of a range, with a line break where a block or `<br>` makes one. */
function textOf(range: Range): string {
  const holder = document.createElement("div");
  holder.append(range.cloneContents());
  for (const br of holder.querySelectorAll("br")) br.replaceWith("\n");
  for (const block of holder.querySelectorAll("p, div, li, h1, h2, h3, blockquote")) block.prepend("\n");
  return (holder.textContent ?? "").replace(/^\n/, "").replaceAll("\u00a0", " ");
}

/** Where the caret of an element that can be edited is on the screen. */
export function caretRect(element: HTMLElement): DOMRect | null {
  const range = selectionIn(element);
  if (!range) return null;
  const [rect] = range.getClientRects();
  if (rect) return rect;
  // An empty line has no rectangle; its element has.
  const { endContainer } = range;
  const box = endContainer instanceof HTMLElement ? endContainer : endContainer.parentElement;
  return box?.getBoundingClientRect() ?? null;
}

/** How many more UTF-16 units a field takes. */
export function roomIn(element: FieldElement): number {
  if (!isControl(element) || element.maxLength < 0) return Infinity;
  return Math.max(0, element.maxLength - element.value.length);
}

/** Puts text at the caret as if it had been typed, in one step of undo. */
export function insert(element: FieldElement, text: string): void {
  element.focus({ preventScroll: true });
  // Deprecated, but the only way to insert text that the browser can undo. Some browsers refuse it in a textarea.
  if (document.execCommand("insertText", false, text)) return;
  if (isControl(element)) element.setRangeText(text, element.selectionStart ?? 0, element.selectionEnd ?? 0, "end");
  else selectionIn(element)?.insertNode(document.createTextNode(text));
  element.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: text }));
}
