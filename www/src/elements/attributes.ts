/** From HTML attributes to options. */
import type { Device, DType, GenerateOptions } from "../api/index.js";
import type { Choice } from "./shared.js";

/** Attributes that say what to load: a change of one loads anew. */
export const LOAD_ATTRIBUTES = ["model", "device", "dtype", "revision"] as const;

const NUMBERS = [
  "max_new_tokens",
  "temperature",
  "top_k",
  "top_p",
  "min_p",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "no_repeat_ngram_size",
] as const;

/** The model and how to load it: `model` (the demo), `device`, `dtype`, `revision`. */
export function choiceOf(element: HTMLElement): Choice {
  const options: Choice["options"] = {};
  // Passed on as they are: the library's error for a wrong value names the option and the values it takes.
  const device = element.getAttribute("device");
  if (device !== null) options.device = device as Device;
  const dtype = element.getAttribute("dtype");
  if (dtype !== null) options.dtype = dtype as DType;
  const revision = element.getAttribute("revision");
  if (revision !== null) options.revision = revision;
  return { model: element.getAttribute("model") ?? "demo", options };
}

/**
 * The options of `generate` that attributes give, named as in the library with hyphens: `max-new-tokens="40"`,
 * `temperature`, `top-k`, `top-p`, `min-p`, `repetition-penalty`, `presence-penalty`, `frequency-penalty`,
 * `no-repeat-ngram-size`, `seed`, `stop` (one text; `\n` is a line break), and `greedy` (no value).
 * Options without an attribute are left to the library and the model.
 */
export function optionsOf(element: HTMLElement): GenerateOptions {
  const options: GenerateOptions = {};
  for (const name of NUMBERS) {
    const value = element.getAttribute(name.replaceAll("_", "-"));
    // Text that is no number becomes NaN, which the library refuses with the option's name.
    if (value !== null) options[name] = value.trim() === "" ? NaN : Number(value);
  }
  // As text: a seed has 64 bits, of which a JavaScript number holds 53.
  const seed = element.getAttribute("seed");
  if (seed !== null) options.seed = seed.trim();
  const stop = element.getAttribute("stop");
  if (stop !== null) options.stop = stop.replaceAll("\\n", "\n");
  if (element.hasAttribute("greedy")) options.do_sample = false;
  return options;
}
