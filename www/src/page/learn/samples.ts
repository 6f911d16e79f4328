/** The same beginning, written on by the model as it was and as it has learnt, side by side. */

import type { GenerateOptions, Generator } from "../../api/index.js";
import { byId } from "../dom.js";

const field = byId("learn-prompt", HTMLInputElement);
const boxes = {
  before: byId("learn-before", HTMLParagraphElement),
  after: byId("learn-after", HTMLParagraphElement),
};
const card = byId("learn-samples", HTMLElement);

/** Words that the beginning has if nobody writes another. */
const N_WORDS = 5;

/** With one seed, so that what differs is what was learnt. */
const OPTIONS: GenerateOptions = { max_new_tokens: 60, do_sample: true, temperature: 0.8, top_k: 40, seed: 1 };

export type Side = keyof typeof boxes;

/** The beginning that both have. */
export function beginning(): string {
  return field.value;
}

/** Takes the beginning of a text, unless a person has written one. */
export function proposeBeginning(text: string): void {
  if (field.dataset.own === "true") return;
  field.value = text.trim().split(/\s+/, N_WORDS).join(" ");
}

/** Empties both sides. */
export function clearSamples(): void {
  for (const box of Object.values(boxes)) box.replaceChildren();
}

/** Writes one side. `how` names what writes. */
export async function showSample(
  side: Side,
  write: (prompt: string, options: GenerateOptions) => Promise<{ text: string }>,
): Promise<void> {
  card.hidden = false;
  const prompt = beginning();
  const { text } = await write(prompt, OPTIONS);
  const given = document.createElement("span");
  given.className = "hint";
  given.textContent = prompt;
  boxes[side].replaceChildren(given, text);
}

/** As the model writes without any adapter. */
export function untaught(generator: Generator) {
  return (prompt: string, options: GenerateOptions) => generator.complete(prompt, { ...options, adapter: null });
}

/** Wires the field. */
export function startSamples(again: () => void): void {
  field.addEventListener("input", () => {
    field.dataset.own = String(field.value.trim() !== "");
  });
  byId("learn-samples-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    again();
  });
}
