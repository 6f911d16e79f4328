/** Whole sets of settings by one press. */

import { byId } from "../dom.js";
import { keep } from "../settings.js";

const CONTROLS = ["greedy", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"] as const;
type Values = Record<(typeof CONTROLS)[number], string>;

const PRESETS: Record<string, Values> = {
  precise: { greedy: "false", temperature: "0.5", top_k: "20", top_p: "0.9", min_p: "0", repetition_penalty: "1.1" },
  balanced: { greedy: "false", temperature: "0.8", top_k: "40", top_p: "1", min_p: "0", repetition_penalty: "1" },
  wild: { greedy: "false", temperature: "1.3", top_k: "0", top_p: "1", min_p: "0.02", repetition_penalty: "1" },
};

const control = (id: string) => byId(id, HTMLInputElement);
const read = (input: HTMLInputElement) =>
  input.type === "checkbox" ? String(input.checked) : String(Number(input.value));

const buttons = () => document.querySelectorAll<HTMLButtonElement>("#presets button");

/** Marks the preset that the controls stand at, if they stand at one. */
export function showPreset(): void {
  for (const button of buttons()) {
    const values = PRESETS[button.value];
    const isIt = values !== undefined && CONTROLS.every((id) => read(control(id)) === values[id]);
    button.setAttribute("aria-pressed", String(isIt));
  }
}

/** Wires the buttons. `changed` is called when they have set the controls. */
export function startPresets(changed: () => void): void {
  for (const button of buttons()) {
    button.addEventListener("click", () => {
      const values = PRESETS[button.value];
      if (!values) throw new Error(`there is no preset \`${button.value}\``);
      for (const id of CONTROLS) {
        const input = control(id);
        if (input.type === "checkbox") input.checked = values[id] === "true";
        else input.value = values[id];
        keep(id);
      }
      changed();
      showPreset();
    });
  }
  byId("sampling-form", HTMLFormElement).addEventListener("input", showPreset);
  showPreset();
}
