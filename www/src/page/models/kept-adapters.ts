/** The adapters that are kept on this machine, of every model. */

import { bytesText } from "../../elements/figures.js";
import { adapters, followAdapters, removeAdapter } from "../adapters.js";
import { retry, showError } from "../alert.js";
import { announce, byId } from "../dom.js";
import { loadedGenerator } from "../engine.js";
import { forget, type Remembered, remembered } from "../remembered.js";

const box = byId("stored-adapters-box", HTMLDivElement);
const list = byId("stored-adapters", HTMLUListElement);

function sizeOf({ source }: Remembered): string {
  if (typeof source === "string") return `from ${source}`;
  return bytesText(Object.values(source).reduce((sum, { size }) => sum + size, 0));
}

async function remove({ model, name }: Remembered): Promise<void> {
  const isLoaded = loadedGenerator()?.info.model === model && adapters().some((one) => one.name === name);
  await (isLoaded ? removeAdapter(name) : forget(model, name));
  announce(`${name} is deleted.`);
  await show();
  byId("stored-heading", HTMLHeadingElement).focus(); // the button that had the focus is gone
}

function row(adapter: Remembered): HTMLLIElement {
  const item = document.createElement("li");
  const [name, about, button] = ["span", "span", "button"].map((tag) => document.createElement(tag));
  if (!name || !about || !button) throw new Error("a row without its parts");
  [name.className, name.textContent] = ["name", adapter.name];
  about.className = "hint figures";
  about.textContent = [
    `adapter of ${adapter.model}`,
    sizeOf(adapter),
    `kept since ${new Date(adapter.saved_at).toLocaleDateString()}`,
  ].join(", ");
  button.textContent = "Delete";
  button.setAttribute("type", "button");
  button.setAttribute("aria-label", `Delete the adapter ${adapter.name}`);
  const act = (): void => {
    remove(adapter).catch((error: unknown) => showError(error, retry(act)));
  };
  button.addEventListener("click", act);
  const actions = document.createElement("div");
  actions.className = "actions";
  actions.append(button);
  item.append(name, about, actions);
  return item;
}

async function show(): Promise<void> {
  let all: Remembered[] = [];
  try {
    all = await remembered();
  } catch {
    // Where storage is forbidden nothing is kept; the panel above says so.
  }
  list.replaceChildren(...all.map(row));
  box.hidden = all.length === 0;
}

/** Wires the list. */
export function startKeptAdapters(): void {
  followAdapters(() => void show());
}
