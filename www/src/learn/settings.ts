/** The options of learning: checked, and as the module reads them. */

import { invalidOption } from "../api/errors.js";
import { checkSignal } from "../api/validate.js";
import type { Method } from "./messages.js";
import type { FinetuneOptions } from "./types.js";

type Rule = [check: (value: unknown) => boolean, expected: string];

const isNumber = (v: unknown): v is number => typeof v === "number" && Number.isFinite(v);
const isWhole = (v: unknown): v is number => Number.isSafeInteger(v);
const positive: Rule = [(v) => isNumber(v) && v > 0, "a number above 0"];
const count: Rule = [(v) => isWhole(v) && v >= 1, "a whole number from 1 on"];
const flag: Rule = [(v) => typeof v === "boolean", "true or false"];

/** What the module reads. */
const SETTINGS: Readonly<Record<string, Rule>> = {
  method: [(v) => v === "lora" || v === "full", '"lora", an adapter, or "full", all of the model'],
  r: [(v) => isWhole(v) && v >= 1 && v <= 256, "a whole number from 1 to 256"],
  lora_alpha: positive,
  use_rslora: flag,
  target_modules: [
    (v) => Array.isArray(v) && v.length > 0 && v.every((name) => typeof name === "string"),
    "a list of names such as c_attn",
  ],
  learning_rate: positive,
  steps: count,
  epochs: positive,
  batch_size: count,
  gradient_accumulation_steps: count,
  max_length: count,
  warmup_steps: [(v) => isWhole(v) && v >= 0, "a whole number from 0 on"],
  eval_fraction: [(v) => isNumber(v) && v >= 0 && v < 1, "a number from 0 to below 1"],
  seed: [(v) => isWhole(v) && v >= 0, "a whole number from 0 on"],
};

/** What the page's side does. */
const OTHERS: Readonly<Record<string, Rule>> = {
  name: [(v) => typeof v === "string" && v !== "", "a name"],
  device: [(v) => v === "auto" || v === "wasm", '"auto" or "wasm", since learning runs on the CPU'],
  save_state: flag,
};

/** What says something of an adapter alone. */
const OF_ADAPTERS = ["r", "lora_alpha", "use_rslora", "target_modules", "name"];

/** Options, checked. */
export interface Settings {
  /** As the module reads them. */
  json: string;
  method: Method;
  name: string | null;
  saveState: boolean;
  signal: AbortSignal | undefined;
}

/** Checks options. @throws {@link InvalidOptionError} names one that is unknown or out of range. */
export function settingsOf(options: FinetuneOptions): Settings {
  const { signal, ...rest } = options;
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined) continue;
    const [own, other] = [SETTINGS, OTHERS].map((rules) => (Object.hasOwn(rules, name) ? rules[name] : undefined));
    const rule = own ?? other;
    const names = [...Object.keys(SETTINGS), ...Object.keys(OTHERS), "signal"].join(", ");
    if (!rule) throw invalidOption(name, `one of ${names}`, "an unknown option");
    if (!rule[0](value)) throw invalidOption(name, rule[1], value);
    if (own) given[name] = value;
  }
  const misplaced = options.method === "full" && OF_ADAPTERS.find((name) => Object.hasOwn(rest, name));
  if (misplaced) throw invalidOption(misplaced, 'nothing with method: "full", which makes no adapter', "a value");
  const { name = null, save_state: saveState = true } = options;
  const { method = "lora" } = options;
  return { json: JSON.stringify(given), method, name, saveState, signal: checkSignal(signal) };
}

/** The texts to learn from. */
export function textsOf(text: unknown): string[] {
  const texts = Array.isArray(text) ? text : [text];
  const wrong = texts.find((one) => typeof one !== "string");
  if (wrong !== undefined || texts.length === 0) {
    throw invalidOption("text", "a text, or a list of texts", texts.length === 0 ? "an empty list" : wrong);
  }
  return texts as string[];
}
