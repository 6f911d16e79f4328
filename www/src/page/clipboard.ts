/** Copying a text for somewhere else. */

import { messageOf } from "../api/errors.js";
import { showAlert } from "./alert.js";
import { announce } from "./dom.js";

/** Copies a text; the button says so for a moment. */
export async function copy(text: string, button: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    const words = button.querySelector("span") ?? button; // beside an icon
    const label = words.textContent;
    words.textContent = "Copied";
    announce("Copied.");
    setTimeout(() => {
      words.textContent = label;
    }, 1500);
  } catch (error) {
    showAlert({
      title: "The browser did not let this page copy",
      detail: messageOf(error),
      next: "Select the text and copy it with the keyboard.",
    });
  }
}
