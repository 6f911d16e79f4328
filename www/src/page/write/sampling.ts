/** Reads the sampling controls. Their ranges, defaults and explanations stand in the HTML and nowhere else. */
import { messageOf } from "../../api/errors.js";
import type { GenerateOptions } from "../../api/index.js";
import type { Explanation } from "../../elements/explain.js";
import { byId } from "../dom.js";
import { keep, resetControls } from "../settings.js";

const ALWAYS = [
  "max_new_tokens",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "no_repeat_ngram_size",
  "min_new_tokens",
] as const;
const BY_CHANCE = ["temperature", "top_k", "top_p", "min_p"] as const;
const MAX_SEED = 2n ** 64n - 1n;

const greedy = byId("greedy", HTMLInputElement);
const chance = byId("chance", HTMLFieldSetElement);
const seed = byId("seed", HTMLInputElement);
const stopStrings = byId("stop_strings", HTMLTextAreaElement);
const overflow = byId("context_overflow", HTMLSelectElement);
const pastEnd = byId("past_end", HTMLInputElement);
const moreOptions = byId("more_options", HTMLTextAreaElement);

/** A control has a value that is not allowed; the message says which control and what it takes. */
export class ControlError extends Error {
  readonly control: HTMLInputElement | HTMLTextAreaElement;
  constructor(control: HTMLInputElement | HTMLTextAreaElement, message: string) {
    super(message);
    this.control = control;
    control.setAttribute("aria-invalid", "true");
  }

  /** What the alert says. */
  explanation(): Explanation {
    return { title: "One of the settings is not valid", detail: this.message, next: "Change it, then generate again." };
  }
}

function nameOf(input: HTMLInputElement): string {
  return input.labels?.[0]?.textContent?.trim() ?? input.id;
}

function numberIn(id: string): number {
  const input = byId(id, HTMLInputElement);
  const value = input.valueAsNumber;
  const whole = input.step === "1";
  // `checkValidity()` would refuse a temperature of 0.73, since the arrows go in steps of 0.05.
  if (
    !Number.isFinite(value) ||
    value < Number(input.min) ||
    value > Number(input.max) ||
    (whole && !Number.isInteger(value))
  ) {
    const found = input.value === "" ? "empty" : input.value;
    const kind = whole ? "whole number" : "number";
    throw new ControlError(
      input,
      `${nameOf(input)} takes a ${kind} from ${input.min} to ${input.max}; it is ${found}.`,
    );
  }
  input.removeAttribute("aria-invalid");
  return value;
}

/** The seed as typed, or null for a random one. As text: a seed has 64 bits, of which a number holds 53. */
function seedIn(): string | null {
  const typed = seed.value.trim();
  if (typed !== "" && (!/^\d{1,20}$/.test(typed) || BigInt(typed) > MAX_SEED)) {
    throw new ControlError(
      seed,
      `Seed takes a whole number from 0 to ${MAX_SEED}, or nothing for a random one; it is ${typed}.`,
    );
  }
  seed.removeAttribute("aria-invalid");
  return typed === "" ? null : typed;
}

/** One stop string per line; `\n` and `\t` stand for what cannot be typed into a line. */
function stopIn(): string[] {
  return stopStrings.value
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replaceAll("\\n", "\n").replaceAll("\\t", "\t"));
}

/** What the page decides itself, or has a control for. */
function hasOwnPlace(name: string): boolean {
  const managed = [
    "signal",
    "progress_callback",
    "num_return_sequences",
    "do_sample",
    "stop",
    "eos_token_id",
    "adapter",
  ];
  return managed.includes(name) || document.getElementById(name) !== null;
}

/** The options that have no control of their own. */
function moreIn(): GenerateOptions {
  const typed = moreOptions.value.trim();
  if (typed === "") return {};
  let more: unknown;
  try {
    more = JSON.parse(typed);
  } catch (error) {
    throw new ControlError(moreOptions, `Further options takes JSON: ${messageOf(error)}.`);
  }
  if (typeof more !== "object" || more === null || Array.isArray(more)) {
    throw new ControlError(moreOptions, `Further options takes a JSON object; it is ${typed.slice(0, 40)}.`);
  }
  const twice = Object.keys(more).find(hasOwnPlace);
  if (twice !== undefined) {
    throw new ControlError(moreOptions, `Further options cannot set ${twice}: it is set elsewhere on this page.`);
  }
  moreOptions.removeAttribute("aria-invalid");
  return more;
}

/**
 * The options of the next `generate`. All controls are passed on: an option that is left out has the value of the
 * model's `generation_config.json`, which may not be the one that the page shows.
 *
 * Throws `ControlError`.
 */
export function readOptions(): GenerateOptions {
  const options: GenerateOptions = { ...moreIn(), do_sample: !greedy.checked };
  for (const id of ALWAYS) options[id] = numberIn(id);
  if (!greedy.checked) {
    for (const id of BY_CHANCE) options[id] = numberIn(id);
    const typed = seedIn();
    if (typed !== null) options.seed = typed;
  }
  if (pastEnd.checked) options.eos_token_id = null;
  const stop = stopIn();
  if (stop.length > 0) options.stop = stop;
  options.context_overflow = overflow.value as NonNullable<GenerateOptions["context_overflow"]>;
  return options;
}

/** Puts a seed into its control, as if it had been typed. */
export function useSeed(value: string): void {
  seed.value = value;
  keep("seed");
}

/** Greedy disables the sampling controls. */
export function followGreedy(): void {
  chance.disabled = greedy.checked;
}

/** Wires the panel. `changed` is called when its controls were put back. */
export function startSampling(changed: () => void): void {
  greedy.addEventListener("change", followGreedy);
  followGreedy();
  byId("sampling-form", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
  byId("reset-sampling", HTMLButtonElement).addEventListener("click", () => {
    resetControls([
      ...ALWAYS,
      ...BY_CHANCE,
      "greedy",
      "seed",
      "stop_strings",
      "context_overflow",
      "past_end",
      "more_options",
    ]);
    followGreedy();
    changed();
  });
}
