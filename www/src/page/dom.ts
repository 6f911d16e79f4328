/** The page's elements by id, its state, and what a screen reader hears. */

/** Where the page stands. `failed`: no model is loaded. */
export type PageState = "loading" | "ready" | "generating" | "failed";

/** The element with this id. Throws if the page has none of that kind, since code and HTML then disagree. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${kind.name} with the id \`${id}\``);
  return element;
}

/** Writes the state where style sheets and tests read it: `<html data-state>`. */
export function setState(state: PageState): void {
  document.documentElement.dataset.state = state;
}

/** The state last set. */
export function pageState(): PageState {
  return document.documentElement.dataset.state as PageState;
}

const announcer = byId("announcer", HTMLParagraphElement);

/** Says a change of state to a screen reader, politely. Never called per token. */
export function announce(text: string): void {
  announcer.textContent = text;
}

const notes = byId("notes", HTMLParagraphElement);

/** Adds a remark to the status area, for what is worth knowing and is no error. */
export function note(text: string): void {
  notes.textContent = [notes.textContent, text].filter((part) => part !== "").join(" ");
  notes.hidden = false;
}

/** Moves the focus from a button, if it has it, before the button is hidden or disabled. */
export function swapFocus(from: HTMLElement, to: HTMLElement): void {
  if (document.activeElement === from) to.focus({ preventScroll: true });
}
