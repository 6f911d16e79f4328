/** Choosing a model: what it takes is told first, and nothing large is fetched before a button is pressed. */

import { isAbort } from "../../api/errors.js";
import type { Device, DType, Estimate, ModelSource } from "../../api/index.js";
import { estimate } from "../../api/index.js";
import { bytesText } from "../../elements/figures.js";
import { hideAlert, retry, showError } from "../alert.js";
import { announce, byId } from "../dom.js";
import { load, nameOf, useEngine } from "../engine.js";
import { keep } from "../settings.js";
import { recall, remember } from "./recent.js";

/** What is fetched without asking once more, in bytes: less than a page with pictures. */
const SMALL_BYTES = 8e6;

const field = byId("model", HTMLInputElement);
const device = byId("device", HTMLSelectElement);
const dtype = byId("dtype", HTMLSelectElement);
const button = byId("load", HTMLButtonElement);
const card = byId("estimate", HTMLDivElement);
const cardName = byId("estimate-name", HTMLHeadingElement);
const figures = byId("estimate-figures", HTMLDListElement);
const problems = byId("estimate-problems", HTMLUListElement);
const fetchButton = byId("fetch", HTMLButtonElement);

/** What the card offers. */
let offered: ModelSource | null = null;
let asking = new AbortController();

function figure(term: string, value: string): HTMLDivElement {
  const pair = document.createElement("div");
  const dt = document.createElement("dt");
  const dd = document.createElement("dd");
  [dt.textContent, dd.textContent] = [term, value];
  pair.append(dt, dd);
  return pair;
}

function showCard(source: ModelSource, it: Estimate): void {
  offered = source;
  cardName.textContent = nameOf(source);
  const free = Math.max(0, it.storage.quota - it.storage.usage);
  figures.replaceChildren(
    figure("To fetch", it.download_bytes === 0 ? "nothing" : bytesText(it.download_bytes)),
    figure("Kept here already", it.cached_bytes === 0 ? "nothing" : bytesText(it.cached_bytes)),
    figure("Memory it takes", it.device_bytes === 0 ? "not known" : bytesText(it.device_bytes)),
    figure("Runs on", `${it.device === "webgpu" ? "GPU" : "CPU"} in ${it.dtype}`),
    figure("Room to keep it", it.storage.quota === 0 ? "not told" : bytesText(free)),
  );
  problems.hidden = it.problems.length === 0;
  problems.replaceChildren(
    ...it.problems.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
  const verb = it.download_bytes > 0 ? "Fetch and load" : "Load";
  fetchButton.textContent = it.device_bytes === 0 ? `${verb} all the same` : verb;
  card.hidden = false;
  cardName.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
  announce(`${nameOf(source)}: ${bytesText(it.download_bytes)} to fetch.`);
}

function hideCard(): void {
  card.hidden = true;
  offered = null;
}

function loadNow(source: ModelSource): void {
  hideCard();
  load({ source, device: device.value as Device, dtype: dtype.value as DType });
}

/** Tells what a model takes; one that is small or here already is loaded at once. */
export async function choose(source: ModelSource): Promise<void> {
  asking.abort();
  const controller = new AbortController();
  asking = controller;
  hideCard();
  hideAlert();
  button.textContent = "Looking…";
  try {
    const options = { device: device.value as Device, dtype: dtype.value as DType, signal: controller.signal };
    const it = await estimate(source, options);
    if (controller.signal.aborted) return;
    const isPossible = it.device_bytes > 0; // else the problems say why it cannot be loaded
    if (isPossible && it.download_bytes <= SMALL_BYTES) loadNow(source);
    else showCard(source, it);
  } catch (error) {
    if (isAbort(error)) return;
    showError(
      error,
      retry(() => void choose(source)),
    );
  } finally {
    if (asking === controller) button.textContent = "Look it up";
  }
}

function showRecent(): void {
  const list = byId("model-list", HTMLDataListElement);
  const known = new Set([...list.options].map(({ value }) => value));
  const options = recall()
    .filter((name) => !known.has(name))
    .map((value) => Object.assign(document.createElement("option"), { value, textContent: "Used before" }));
  list.prepend(...options);
}

/** Files of a picker. Emptied, so that choosing the same files again is a change too. */
function startPicker(id: string): void {
  const input = byId(id, HTMLInputElement);
  input.addEventListener("change", () => {
    // The path of a file of a folder matters: the shallowest checkpoint is taken.
    const files = [...(input.files ?? [])].map((file): [string, File] => [file.webkitRelativePath || file.name, file]);
    input.value = "";
    if (files.length > 0) void choose({ files: Object.fromEntries(files) });
  });
}

/** Wires the form. */
export function startChooser(): void {
  byId("model-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim() === "") field.value = "demo";
    void choose(field.value.trim());
  });
  fetchButton.addEventListener("click", () => {
    if (offered !== null) loadNow(offered);
  });
  byId("estimate-dismiss", HTMLButtonElement).addEventListener("click", () => {
    hideCard();
    field.focus();
  });
  startPicker("files");
  startPicker("folder");
  useEngine({
    ended(generator, name) {
      if (!generator || name !== field.value.trim()) return;
      keep("model");
      remember(name);
      showRecent();
    },
  });
  showRecent();
}
