/** The five views: which one is shown, its address (`?view=look`), and fetching its script when it is first opened. */

import { showError } from "./alert.js";
import { byId } from "./dom.js";

/** A view by the name that its address has. */
export type ViewName = "write" | "look" | "learn" | "speed" | "models";

/** What the script of a view has: `start` wires it when it is first opened. */
interface ViewModule {
  start(): void | Promise<void>;
}

const LOADERS: Record<ViewName, () => Promise<ViewModule>> = {
  write: () => import("./write/index.js"),
  look: () => import("./look/index.js"),
  learn: () => import("./learn/index.js"),
  speed: () => import("./speed/index.js"),
  models: () => import("./models/index.js"),
};
const NAMES = Object.keys(LOADERS) as ViewName[];

const started = new Map<ViewName, Promise<void>>();
const site = document.title.split(" · ").at(-1) ?? "";

const isView = (name: string | null | undefined): name is ViewName => NAMES.includes(name as ViewName);

const sectionOf = (name: ViewName) => byId(`view-${name}`, HTMLElement);

/** The view that the address names; Write where it names none. */
function addressed(): ViewName {
  const asked = new URLSearchParams(location.search).get("view");
  return isView(asked) ? asked : "write";
}

/** Fetches and starts a view once; a failure is told, and the next opening tries again. */
function start(name: ViewName): Promise<void> {
  let starting = started.get(name);
  if (!starting) {
    starting = LOADERS[name]()
      .then((view) => view.start())
      .catch((error: unknown) => {
        started.delete(name);
        showError(error, { label: "Retry", act: () => void show(name) });
      });
    started.set(name, starting);
  }
  return starting;
}

/** Shows a view; resolves when its script runs. */
function show(name: ViewName): Promise<void> {
  for (const other of NAMES) sectionOf(other).hidden = other !== name;
  for (const link of document.querySelectorAll<HTMLAnchorElement>("nav a[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = document.querySelector(`nav a[data-view="${name}"]`)?.textContent ?? name;
  document.title = `${title} · ${site}`;
  document.documentElement.dataset.view = name;
  return start(name);
}

/** Opens a view, as a link to it does; `params` go into its address. Resolves when its script runs. */
export function openView(name: ViewName, params: Record<string, string> = {}): Promise<void> {
  const address = `?${new URLSearchParams({ view: name, ...params })}`;
  if (location.search !== address) history.pushState(null, "", address);
  scrollTo({ top: 0 });
  return show(name);
}

/** Shows the view of the address, and follows links between views. */
export function startRouter(): Promise<void> {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest<HTMLElement>("a[data-view]") : null;
    const name = link?.dataset.view;
    // A click that opens a new tab or window is the browser's.
    if (!isView(name) || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    void openView(name);
  });
  addEventListener("popstate", () => void show(addressed()));
  return show(addressed());
}
