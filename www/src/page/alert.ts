/** The page's one alert: what went wrong in plain words, the precise message, what to do, and a way to retry. */
import { type Explanation, explain } from "../elements/explain.js";
import { byId } from "./dom.js";

const box = byId("error", HTMLElement);

function paragraph(className: string, text: string): HTMLParagraphElement {
  const p = document.createElement("p");
  p.className = className;
  p.textContent = text;
  return p;
}

function button(text: string, id: string, act: () => void): HTMLButtonElement {
  const b = document.createElement("button");
  b.type = "button";
  b.id = id;
  b.textContent = text;
  b.addEventListener("click", act);
  return b;
}

/** A button of the alert; using it takes the alert away. */
export interface Action {
  label: string;
  act(): void;
}

/** The button that does again what failed. */
export function retry(act: () => void): Action {
  return { label: "Retry", act };
}

/** Shows an explanation, with one thing to do about it where there is one. */
export function showAlert(explanation: Explanation, action?: Action): void {
  const title = document.createElement("h2");
  title.textContent = explanation.title;
  const actions = document.createElement("div");
  actions.className = "actions";
  if (action) {
    const act = (): void => {
      hideAlert();
      action.act();
    };
    actions.append(button(action.label, "error-action", act));
  }
  actions.append(button("Dismiss", "error-dismiss", hideAlert));
  // Shown first and filled afterwards: a screen reader announces what is added to an alert that is visible.
  box.hidden = false;
  box.replaceChildren(title, paragraph("detail", explanation.detail), paragraph("next", explanation.next), actions);
  box.scrollIntoView({ block: "nearest" });
}

/** Shows anything that was thrown. */
export function showError(error: unknown, action?: Action): void {
  showAlert(explain(error), action);
}

/** Takes the alert away. */
export function hideAlert(): void {
  box.hidden = true;
  box.replaceChildren();
}
