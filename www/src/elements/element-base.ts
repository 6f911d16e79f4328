/** What all elements are made from. */

/** `HTMLElement`, or on a server, where an element is imported but never made, a class in its place. */
export const ElementBase: typeof HTMLElement = globalThis.HTMLElement ?? (class {} as unknown as typeof HTMLElement);

const sheets = new Map<string, CSSStyleSheet>();

/** Gives a shadow tree a style sheet, which all trees share. Unlike a `<style>`, no policy (CSP) forbids it. */
export function wear(root: ShadowRoot, css: string): void {
  let sheet = sheets.get(css);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    sheets.set(css, sheet);
  }
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}

/**
 * Takes over properties that were set while the element was not defined yet: as own properties of the element they
 * would hide the accessors of its class.
 */
export function takeOver<E extends HTMLElement>(element: E, names: readonly (keyof E)[]): void {
  for (const name of names) {
    if (!Object.hasOwn(element, name)) continue;
    const value = element[name];
    delete element[name];
    element[name] = value;
  }
}

/** The one state of an element, which style sheets see as `:state(loading)`. */
export class ElementState<S extends string> {
  readonly #states: Set<string> | undefined;
  #now: S;

  constructor(internals: ElementInternals, first: S) {
    this.#states = internals.states as unknown as Set<string> | undefined; // Safari 16.4 and Firefox 114 have none
    this.#now = first;
    this.#mark("add", first);
  }

  get now(): S {
    return this.#now;
  }

  enter(state: S): void {
    this.#mark("delete", this.#now);
    this.#now = state;
    this.#mark("add", state);
  }

  #mark(how: "add" | "delete", state: S): void {
    try {
      this.#states?.[how](state);
    } catch {
      this.#states?.[how](`--${state}`); // Chrome before 125 takes names with dashes only: `:--loading`
    }
  }
}
