/** What is learnt from: typed, pasted, opened from files or dropped; how long it is, and what learning would take. */

import { isAbort, messageOf } from "../../api/errors.js";
import type { Generator } from "../../api/index.js";
import { bytesText, countText } from "../../elements/figures.js";
import { estimateFinetune, type FinetuneOptions } from "../../learn/index.js";
import { byId } from "../dom.js";

const area = byId("learn-text", HTMLTextAreaElement);
const size = byId("learn-size", HTMLParagraphElement);
const cost = byId("learn-cost", HTMLParagraphElement);

/** Where the text is kept for the next visit. */
const KEPT = "gpt2-web.learn-text";
const DELAY_MS = 500;
/** Fewer tokens teach nothing but themselves. */
const FEW_TOKENS = 300;

let timer: ReturnType<typeof setTimeout> | undefined;
let newest = 0;

/** The text. */
export function text(): string {
  return area.value;
}

/** Puts a text there. */
export function setText(value: string): void {
  area.value = value;
  area.dispatchEvent(new Event("input"));
}

/** Adds text files to what is there. */
export async function addFiles(files: Iterable<Blob>): Promise<void> {
  const texts = await Promise.all([...files].map((file) => file.text()));
  setText([area.value.trimEnd(), ...texts].filter((part) => part !== "").join("\n\n"));
}

/** Tells how long the text is and what learning it takes, with these options. */
export async function measure(generator: Generator | null, options: FinetuneOptions | null): Promise<void> {
  const mine = ++newest;
  const given = area.value;
  if (given.trim() === "" || !generator || !options) {
    size.textContent = cost.textContent = "";
    return;
  }
  try {
    const it = await estimateFinetune(generator, given, options);
    if (mine !== newest) return;
    const few = it.tokens < FEW_TOKENS ? ": a few pages more would teach it better" : "";
    size.textContent = `${countText(it.tokens, "token")}${few}`;
    cost.textContent = [
      `${countText(it.steps, "step")}, ${bytesText(it.memory_bytes)} of memory while it learns.`,
      ...it.problems.map((problem) => `${problem}.`),
    ].join(" ");
  } catch (error) {
    if (mine !== newest || isAbort(error)) return;
    cost.textContent = messageOf(error);
  }
}

/** Wires the field; `changed` is called when its text has not changed for a while. */
export function startText(changed: () => void): void {
  try {
    area.value = localStorage.getItem(KEPT) ?? "";
  } catch {
    // Storage is forbidden here, and nothing was kept.
  }
  area.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      try {
        localStorage.setItem(KEPT, area.value);
      } catch {
        // Too long for local storage: it is not there at the next visit.
      }
      changed();
    }, DELAY_MS);
  });
  byId("learn-files", HTMLInputElement).addEventListener("change", ({ target }) => {
    const input = target as HTMLInputElement;
    void addFiles(input.files ?? []).then(() => {
      input.value = ""; // so that the same file can be opened again
    });
  });
}
