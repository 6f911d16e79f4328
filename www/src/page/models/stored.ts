/** What is kept on this machine: models with their sizes, a way to delete each, and how full the storage is. */

import { messageOf } from "../../api/errors.js";
import type { CachedModel } from "../../api/index.js";
import { deleteModel, listModels, storageEstimate } from "../../api/index.js";
import { bytesText, countText } from "../../elements/figures.js";
import { retry, showError } from "../alert.js";
import { announce, byId } from "../dom.js";
import { useEngine } from "../engine.js";
import { choose } from "./chooser.js";

const heading = byId("stored-heading", HTMLHeadingElement);
const used = byId("storage-used", HTMLSpanElement);
const list = byId("stored-models", HTMLUListElement);
const none = byId("stored-none", HTMLParagraphElement);
const quota = byId("quota", HTMLMeterElement);
const quotaText = byId("quota-text", HTMLParagraphElement);
const persistence = byId("persistence", HTMLParagraphElement);
const persistButton = byId("persist", HTMLButtonElement);

function row(model: CachedModel): HTMLLIElement {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = model.name;
  const size = document.createElement("span");
  size.className = "hint figures";
  size.textContent = sizeText(model);
  const actions = document.createElement("div");
  actions.className = "actions";
  const remove = button("Delete", model.name, () => void forget(model));
  // Loading goes by the name alone, so another revision than the usual one is loaded by its address.
  if (model.revision === "main" || model.name === "demo")
    actions.append(button("Load", model.name, () => void choose(model.name)));
  actions.append(remove);
  item.append(name, size, actions);
  return item;
}

function button(verb: string, name: string, act: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = verb;
  made.setAttribute("aria-label", `${verb} ${name}`);
  made.addEventListener("click", act);
  return made;
}

function sizeText({ complete, bytes, total_bytes, dtypes, revision, saved_at }: CachedModel): string {
  const since = new Date(saved_at).toLocaleDateString();
  // some servers do not tell how large their files are
  const soFar = total_bytes > bytes ? `${bytesText(bytes)} of ${bytesText(total_bytes)}` : `${bytesText(bytes)} so far`;
  const parts = complete
    ? `${bytesText(bytes)}${dtypes.length > 0 ? ` as ${dtypes.join(", ")}` : ""}`
    : `partly downloaded, ${soFar}, resumes where it stopped`;
  return [parts, `revision ${revision}`, `kept since ${since}`].join(", ");
}

async function forget(model: CachedModel): Promise<void> {
  try {
    await deleteModel(model.name, { revision: model.revision });
    announce(`${model.name} is deleted.`);
    await showStorage();
    heading.focus(); // the button that had the focus is gone
  } catch (error) {
    showError(
      error,
      retry(() => void forget(model)),
    );
  }
}

/** Shows what is kept now. A browser without storage is no error: the panel says so. */
async function showStorage(): Promise<void> {
  try {
    const models = await listModels();
    const { usage, quota: room } = await storageEstimate();
    const sum = models.reduce((bytes, model) => bytes + model.bytes, 0);
    list.replaceChildren(...models.map(row));
    none.hidden = models.length > 0;
    used.textContent = models.length > 0 ? `${countText(models.length, "model")}, ${bytesText(sum)}` : "none";
    quota.max = Math.max(room, 1);
    quota.value = usage;
    quotaText.textContent = `${bytesText(usage)} used of the ${bytesText(room)} that the browser allows`;
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    persistence.textContent = persisted
      ? "The browser keeps them until you delete them."
      : "The browser may delete them when it runs out of room.";
    persistButton.hidden = persisted || models.length === 0 || !navigator.storage?.persist;
  } catch (error) {
    used.textContent = "not available";
    none.hidden = false;
    none.textContent = `This browser keeps nothing here: ${messageOf(error)}.`;
  }
}

/** Wires the panel. */
export function startStored(): void {
  persistButton.addEventListener("click", () => {
    navigator.storage.persist().then(
      (kept) => {
        announce(kept ? "The browser will keep them." : "The browser did not agree.");
        return showStorage();
      },
      (error: unknown) => showError(error),
    );
  });
  const refresh = (): void => void showStorage();
  useEngine({
    attach(generator) {
      refresh();
      void generator.kept.then(refresh); // what is kept grows behind the load
    },
    ended: refresh,
  });
  refresh();
}
