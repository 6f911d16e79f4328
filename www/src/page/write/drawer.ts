/** Panels at the window's side that a button opens and closes; the text stays usable beside them. */

import { byId } from "../dom.js";

const main = byId("main", HTMLElement);

/** Wires a panel and its button. `opened` is called each time it opens. */
export function startDrawer(name: string, opened: () => void = () => {}): { open(): void; close(): void } {
  const panel = byId(name, HTMLElement);
  const button = byId(`${name}-button`, HTMLButtonElement);
  const close = (): void => {
    if (panel.hidden) return;
    const hadFocus = panel.contains(document.activeElement);
    panel.hidden = true;
    main.classList.remove("beside-drawer");
    button.setAttribute("aria-expanded", "false");
    if (hadFocus) button.focus();
  };
  const open = (): void => {
    for (const other of document.querySelectorAll<HTMLElement>(".drawer:not([hidden])"))
      if (other !== panel) byId(`${other.id}-close`, HTMLButtonElement).click();
    panel.hidden = false;
    main.classList.add("beside-drawer"); // where there is room the sheet makes way
    button.setAttribute("aria-expanded", "true");
    opened();
    panel.focus({ preventScroll: true });
  };
  button.addEventListener("click", () => (panel.hidden ? open() : close()));
  byId(`${name}-close`, HTMLButtonElement).addEventListener("click", close);
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    close();
  });
  return { open, close };
}
