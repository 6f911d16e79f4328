/** Settings that are kept for the next visit, and those that a link sets. */

import { messageOf } from "../api/errors.js";
import { byId, note } from "./dom.js";

const KEY = "gpt2-web.page";

/** Controls whose value is kept. */
const KEPT = [
  "model",
  "device",
  "dtype",
  "max_new_tokens",
  "context_overflow",
  "stop_strings",
  "greedy",
  "temperature",
  "top_k",
  "top_p",
  "min_p",
  "seed",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "no_repeat_ngram_size",
  "min_new_tokens",
  "past_end",
  "more_options",
  "suggest",
] as const;

/** What a link may set: `?model=…&device=…&dtype=…`. It holds for the visit and is not kept. */
const LINKED = ["model", "device", "dtype"] as const;

type Control = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

function control(id: string): Control {
  return byId(id, HTMLElement) as Control;
}

function read(element: Control): string {
  return element instanceof HTMLInputElement && element.type === "checkbox" ? String(element.checked) : element.value;
}

/** Sets a control; false where it cannot hold the value. */
function write(element: Control, value: string): boolean {
  if (element instanceof HTMLInputElement && element.type === "checkbox") {
    element.checked = value === "true";
    return true;
  }
  const before = element.value;
  element.value = value;
  if (element.value === value) return true;
  element.value = before;
  return false;
}

const kept: Record<string, string> = {};
let told = false;

function storageFailed(error: unknown): void {
  if (told) return;
  told = true;
  note(`Settings are not remembered: ${messageOf(error)}.`);
}

function store(): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch (error) {
    // Storage can be full or forbidden (private windows, third-party frames).
    storageFailed(error);
  }
}

function restore(): void {
  try {
    const parsed: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    if (typeof parsed !== "object" || parsed === null) return;
    for (const [id, value] of Object.entries(parsed)) if (typeof value === "string") kept[id] = value;
  } catch (error) {
    storageFailed(error);
  }
}

/** Keeps the present value of one control. */
export function keep(id: (typeof KEPT)[number]): void {
  kept[id] = read(control(id));
  store();
}

/** The values of these controls that are not as the HTML says. */
export function readControls(ids: readonly string[]): Record<string, string> {
  const usual = (element: Control): string => {
    if (element instanceof HTMLSelectElement) return element.options[0]?.value ?? "";
    const isBox = element instanceof HTMLInputElement && element.type === "checkbox";
    return isBox ? String((element as HTMLInputElement).defaultChecked) : element.defaultValue;
  };
  const values = ids.map((id): [string, string] => [id, read(control(id))]);
  return Object.fromEntries(values.filter(([id, value]) => value !== usual(control(id))));
}

/**
 * Sets controls from a link, and keeps them as if a person had; the others get the values that the HTML says. → those
 * that cannot be set, in words
 */
export function writeControls(ids: readonly string[], values: URLSearchParams): string[] {
  resetControls(ids);
  const refused: string[] = [];
  for (const id of ids) {
    const value = values.get(id);
    if (value === null) continue;
    if (write(control(id), value)) kept[id] = value;
    else refused.push(`${id}=${value}`);
  }
  store();
  return refused;
}

/** Forgets kept values, and puts each control back to what the HTML says. */
export function resetControls(ids: readonly string[]): void {
  for (const id of ids) {
    const element = control(id);
    if (element instanceof HTMLSelectElement) element.selectedIndex = 0;
    else if (element instanceof HTMLInputElement && element.type === "checkbox")
      element.checked = element.defaultChecked;
    else element.value = element.defaultValue;
    delete kept[id];
  }
  store();
}

/** Settings as they stand at the start: whether a link named the model. */
export interface Start {
  /** The model of the link, else null. */
  linkedModel: string | null;
  /** Parameters of the link that no control can hold, in words. */
  refused: string[];
}

/** Fills the controls from storage, then from the link, and keeps every later change. */
export function startSettings(): Start {
  restore();
  for (const id of KEPT) {
    const value = kept[id];
    if (value !== undefined) write(control(id), value);
    // The model is kept when it has loaded, not while its name is being typed.
    if (id !== "model") control(id).addEventListener("change", () => keep(id));
  }
  const link = new URLSearchParams(location.search);
  const refused: string[] = [];
  for (const id of LINKED) {
    const value = link.get(id);
    if (value === null || value === "") continue;
    if (!write(control(id), value)) refused.push(`${id}=${value}`);
  }
  return { linkedModel: link.get("model") || null, refused };
}
