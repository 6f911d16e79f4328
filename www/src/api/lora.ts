/** LoRA adapters as callers name and choose them. Runs in the page's thread. */

import { resolve } from "../files/source.js";
import { invalidOption } from "./errors.js";
import type { AdapterSource, LoadAdapterOptions } from "./lora-types.js";
import type { WireChoice, WireModel } from "./messages.js";
import type { CreateGeneratorOptions } from "./types.js";
import { checkSignal } from "./validate.js";

const EXPECTED_CHOICE = "a name, a list of names, an object of names and weights, or null";

/** A choice that can be posted. A weight that is not given is that of the adapter. */
export function choiceOf(value: unknown): WireChoice {
  if (value === null) return [];
  if (typeof value === "string") return [[value, null]];
  if (Array.isArray(value)) {
    const wrong = value.find((name) => typeof name !== "string");
    if (wrong !== undefined) throw invalidOption("adapter", EXPECTED_CHOICE, wrong);
    const twice = value.find((name, i) => value.indexOf(name) !== i);
    if (twice !== undefined) throw invalidOption("adapter", "each name once", twice);
    return value.map((name: string) => [name, null]);
  }
  if (typeof value !== "object" || value === undefined) throw invalidOption("adapter", EXPECTED_CHOICE, value);
  return Object.entries(value).map(([name, weight]) => [name, checkedWeight(`adapter.${name}`, weight)]);
}

/** A choice for one call; `undefined` for the generator's own. */
export function ownChoiceOf(value: unknown): WireChoice | undefined {
  return value === undefined ? undefined : choiceOf(value);
}

function checkedWeight(option: string, value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw invalidOption(option, "a finite number", value);
}

/** What {@link Generator.loadAdapter} was given, in a form that can be posted, and its signal. */
export function adapterRequest(
  source: AdapterSource,
  options: LoadAdapterOptions,
  location: Pick<CreateGeneratorOptions, "remote_host" | "remote_path_template">,
): { body: { source: WireModel; name: string | null; weight: number }; signal: AbortSignal | undefined } {
  const { name, weight = 1, revision, signal, ...rest } = options;
  for (const option of Object.keys(rest)) {
    throw invalidOption(option, "one of name, weight, revision, signal", "an unknown option");
  }
  if (name !== undefined && (typeof name !== "string" || name === "")) throw invalidOption("name", "a name", name);
  const isText = typeof source === "string" || source instanceof URL;
  if (!isText && !(typeof source === "object" && source !== null && "files" in source)) {
    throw invalidOption("adapter", "a Hugging Face id, a URL, or { files }", source);
  }
  const place = { ...location, ...(revision === undefined ? {} : { revision }) };
  const wire = resolve(source, place, "adapter");
  return {
    body: { source: wire, name: name ?? null, weight: checkedWeight("weight", weight) },
    signal: checkSignal(signal),
  };
}
