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
