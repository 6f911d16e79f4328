/** The adapters of the model in use: on and off, saving, opening others, deleting. */

import { isAbort } from "../../api/errors.js";
import type { LoraAdapterInfo } from "../../api/index.js";
import { countText, parametersText } from "../../elements/figures.js";
import { adapterOn, adapters, addAdapter, filesOf, followAdapters, removeAdapter, turnOn } from "../adapters.js";
import { retry, showError } from "../alert.js";
import { announce, byId } from "../dom.js";
import { saveFile } from "../save-file.js";
import { archiveOf, unpacked } from "./archive.js";

const list = byId("learn-adapters", HTMLUListElement);
const none = byId("learn-adapters-none", HTMLParagraphElement);
const heading = byId("learn-adapters-heading", HTMLHeadingElement);
const address = byId("adapter-address", HTMLInputElement);

/** Does something, and tells what goes wrong. */
function doing(act: () => Promise<void>): void {
  act().catch((error: unknown) => {
    if (!isAbort(error))
      showError(
        error,
        retry(() => doing(act)),
      );
  });
}

function button(verb: string, name: string, act: () => Promise<void>): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = verb;
  made.setAttribute("aria-label", `${verb} ${name}`);
  made.addEventListener("click", () => doing(act));
  return made;
}

async function save(name: string): Promise<void> {
  const files = await filesOf(name);
  if (!files) throw new Error(`${name}: its files are at its address, and are not kept here`);
  saveFile(`${name.replace(/[^\w.-]+/g, "-")}.zip`, await archiveOf(files));
}

function row({ name, parameters, rank, source, active_weight }: LoraAdapterInfo): HTMLLIElement {
  const item = document.createElement("li");
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = active_weight !== 0;
  box.addEventListener("change", () =>
    doing(async () => {
      await turnOn(box.checked ? name : null);
      announce(adapterOn() === null ? "No adapter is on." : `${name} is on.`);
    }),
  );
  label.className = "name";
  label.append(box, name);
  const about = document.createElement("span");
  about.className = "hint figures";
  about.textContent = `${parametersText(parameters)} parameters, rank ${rank}, from ${source}`;
  const actions = document.createElement("div");
  actions.className = "actions";
  const remove = button("Delete", name, async () => {
    await removeAdapter(name);
    announce(`${name} is deleted.`);
    heading.focus();
  });
  actions.append(
    button("Save", name, () => save(name)),
    remove,
  );
  item.append(label, about, actions);
  return item;
}

function show(): void {
  // A box keeps the focus when its row is drawn anew.
  const focused = [...list.querySelectorAll("input")].indexOf(document.activeElement as HTMLInputElement);
  list.replaceChildren(...adapters().map(row));
  list.querySelectorAll("input")[focused]?.focus();
  none.hidden = adapters().length > 0;
}

/** Loads adapters from files or an address; the one that came is on. */
export function bringIn(files: Iterable<File>): void {
  doing(async () => {
    const all = [...files];
    const zip = all.find(({ name }) => name.endsWith(".zip"));
    const name = await addAdapter({ files: await unpacked(all) }, zip?.name.replace(/\.zip$/, ""));
    await turnOn(name);
    announce(`${name} is on.`);
  });
}

/** Wires the card. */
export function startShelf(): void {
  followAdapters(show);
  byId("adapter-files", HTMLInputElement).addEventListener("change", ({ target }) => {
    const input = target as HTMLInputElement;
    bringIn([...(input.files ?? [])]);
    input.value = "";
  });
  byId("adapter-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const source = address.value.trim();
    if (source === "") return;
    doing(async () => {
      const name = await addAdapter(source);
      address.value = "";
      await turnOn(name);
      announce(`${name} is on, one of ${countText(adapters().length, "adapter")}.`);
    });
  });
}
