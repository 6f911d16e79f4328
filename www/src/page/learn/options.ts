/** How it learns: the form's controls as options. Their ranges and explanations stand in the HTML. */

import type { FinetuneOptions } from "../../learn/index.js";
import { byId } from "../dom.js";

const method = byId("learn-method", HTMLSelectElement);
const NUMBERS = { epochs: "learn-epochs", learning_rate: "learn-rate", r: "learn-rank", seed: "learn-seed" } as const;

/** The options that the controls say; null where one of them is not valid, which the browser tells when asked. */
export function readOptions(): FinetuneOptions | null {
  const options: FinetuneOptions = { method: method.value as "lora" | "full" };
  for (const [name, id] of Object.entries(NUMBERS)) {
    const input = byId(id, HTMLInputElement);
    if (!input.validity.valid) return null;
    const isOfAdapters = name === "r";
    if (input.value === "" || (isOfAdapters && options.method === "full")) continue;
    options[name as keyof typeof NUMBERS] = input.valueAsNumber;
  }
  return options;
}

/** Wires the controls. */
export function startOptions(changed: () => void): void {
  for (const control of [method, ...Object.values(NUMBERS).map((id) => byId(id, HTMLInputElement))])
    control.addEventListener("change", changed);
  const follow = (): void => {
    byId("learn-rank", HTMLInputElement).disabled = method.value === "full";
  };
  method.addEventListener("change", follow);
  follow();
}
