/** Which adapter Write writes with: a choice in the drawer. */

import { adapterOn, adapters, followAdapters, turnOn } from "../adapters.js";
import { showError } from "../alert.js";
import { announce, byId } from "../dom.js";

const choice = byId("adapter-choice", HTMLSelectElement);

function show(): void {
  const on = adapterOn();
  const none = new Option("None", "");
  choice.replaceChildren(none, ...adapters().map(({ name }) => new Option(name, `=${name}`)));
  choice.value = on === null ? "" : `=${on}`;
  choice.disabled = adapters().length === 0;
}

/** Wires the choice. */
export function startAdapterChoice(): void {
  followAdapters(show);
  choice.addEventListener("change", () => {
    const name = choice.value === "" ? null : choice.value.slice(1);
    turnOn(name).then(
      () => announce(name === null ? "No adapter is on." : `${name} is on.`),
      (error: unknown) => {
        show();
        showError(error);
      },
    );
  });
}
