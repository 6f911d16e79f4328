/** The model in use, and how far the one that is being loaded is. */

import type { GeneratorInfo, ProgressEvent, ProgressPhase } from "../../api/index.js";
import { bytesText, countText, deviceText, PHASES, parametersText, progressText } from "../../elements/figures.js";
import { byId, swapFocus } from "../dom.js";
import { cancelLoad, useEngine } from "../engine.js";

const status = byId("status", HTMLParagraphElement);
const fallback = byId("fallback", HTMLParagraphElement);
const box = byId("loading", HTMLDivElement);
const bar = byId("progress", HTMLProgressElement);
const barText = byId("progress-text", HTMLParagraphElement);
const cancelButton = byId("cancel-load", HTMLButtonElement);
const phases = byId("phases", HTMLOListElement);

/** How fast bytes come, from what came lately. */
class Rate {
  /** [time in ms, bytes so far] of the last seconds, oldest first. */
  #seen: [number, number][] = [];

  /** → bytes per second, or null while too little is known. */
  of(loaded: number, nowMs: number): number | null {
    const latest = this.#seen.at(-1);
    if (latest && loaded < latest[1]) this.#seen = [];
    this.#seen.push([nowMs, loaded]);
    while (this.#seen.length > 2 && nowMs - (this.#seen[0]?.[0] ?? nowMs) > 4000) this.#seen.shift();
    const [firstMs, firstBytes] = this.#seen[0] ?? [nowMs, loaded];
    return nowMs - firstMs < 500 ? null : ((loaded - firstBytes) * 1000) / (nowMs - firstMs);
  }
}

let rate = new Rate();

function showPhases(now: ProgressPhase): void {
  const items = [...phases.children] as HTMLLIElement[];
  let item = items.find((other) => other.dataset.phase === now);
  if (!item) {
    item = document.createElement("li");
    item.dataset.phase = now;
    item.textContent = PHASES[now];
    phases.append(item);
  }
  // Phases overlap: weights are converted while others still arrive, so none is struck out before the last one.
  for (const other of items) other.removeAttribute("aria-current");
  item.setAttribute("aria-current", "step");
}

function showProgress(event: ProgressEvent): void {
  showPhases(event.phase);
  // The other events are about single files; this one is about the whole load.
  if (event.status !== "progress_total") return;
  // While the size is not known, the bar only shows that something is under way.
  if (event.progress === null) bar.removeAttribute("value");
  else if (event.total > 0 || event.progress > 0) bar.value = event.progress;
  const perSecond = event.phase === "download" ? rate.of(event.loaded, performance.now()) : null;
  const text = progressText(event);
  barText.textContent = perSecond === null ? text : `${text} · ${bytesText(perSecond)}/s`;
  bar.setAttribute("aria-valuetext", text);
}

function showInfo(info: GeneratorInfo, name: string): void {
  status.textContent = [
    `${name} is loaded`,
    deviceText(info),
    info.dtype,
    `${parametersText(info.parameters)} parameters (${bytesText(info.weight_bytes)})`,
    `window of ${countText(info.context_window, "token")}`,
    `self-test ${info.self_test}`,
  ].join(" · ");
  const remarks = [...info.warnings];
  if (info.fallback_reason !== null) remarks.unshift(`Why not the GPU: ${info.fallback_reason}`);
  fallback.hidden = remarks.length === 0;
  fallback.textContent = remarks.join(" · ");
}

/** Wires the panel. */
export function startInUse(): void {
  cancelButton.addEventListener("click", cancelLoad);
  useEngine({
    began(name) {
      rate = new Rate();
      bar.removeAttribute("value");
      bar.removeAttribute("aria-valuetext");
      barText.textContent = "Starting…";
      phases.replaceChildren();
      box.hidden = false;
      fallback.hidden = true;
      status.textContent = `Loading ${name}`;
    },
    progress: showProgress,
    ended(generator, text) {
      swapFocus(cancelButton, byId("load", HTMLButtonElement));
      box.hidden = true;
      if (generator) showInfo(generator.info, text);
      else status.textContent = text;
    },
  });
}
