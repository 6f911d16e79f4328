/** The panel beside a pressed word: its rivals, each of which begins a branch. */

import { isAbort } from "../../api/errors.js";
import type { Generator } from "../../api/index.js";
import { shareText } from "../../elements/figures.js";
import { showError } from "../alert.js";
import { announce, byId } from "../dom.js";
import type { Editor, Word } from "./editor.js";
import { promptFor } from "./prompt.js";
import { type Rival, rivalsAfter } from "./rivals.js";

const panel = byId("rivals", HTMLDivElement);
const title = byId("rivals-title", HTMLParagraphElement);
const list = byId("rivals-list", HTMLOListElement);
const remark = byId("rivals-remark", HTMLParagraphElement);

/** Shows a word's rivals. */
export class RivalsPanel {
  readonly #editor: Editor;
  /** Called with the word and what is to stand in its place. */
  readonly #choose: (word: Word, text: string) => void;
  #asking = new AbortController();
  #word: Word | null = null;

  constructor(editor: Editor, choose: (word: Word, text: string) => void) {
    [this.#editor, this.#choose] = [editor, choose];
    panel.addEventListener("keydown", (event) => this.#onKey(event));
    panel.addEventListener("focusout", (event) => {
      if (!(event.relatedTarget instanceof Node) || !panel.contains(event.relatedTarget)) this.close();
    });
  }

  get isOpen(): boolean {
    return !panel.hidden;
  }

  /** Opens at a word; `isFocused`: for the keyboard. */
  async open(generator: Generator, word: Word, isFocused: boolean): Promise<void> {
    this.close();
    const asking = new AbortController();
    this.#asking = asking;
    this.#word = word;
    title.textContent = `Instead of “${word.text.trim()}”`;
    list.replaceChildren();
    remark.textContent = "Asking the model…";
    panel.hidden = false;
    this.#editor.setOff([word.start, word.end]);
    this.#place(word);
    if (isFocused) panel.focus({ preventScroll: true });
    try {
      const asked = await promptFor(generator, this.#editor.text.slice(0, word.start), 8);
      if (asking.signal.aborted) return;
      if (!asked) {
        remark.textContent = "Nothing stands before it, so the model expected nothing.";
        return;
      }
      const rivals = await rivalsAfter(generator, asked.prompt, asking.signal, (some) => this.#show(some, word));
      if (asking.signal.aborted) return;
      this.#show(rivals, word);
      const own = rivals.find(({ text }) => text === word.text);
      remark.textContent = own
        ? `“${word.text.trim()}” had ${shareText(own.probability)}.`
        : `“${word.text.trim()}” was less likely than all of these.`;
      this.#place(word);
      announce(`${rivals.length} rivals of ${word.text.trim()}.`);
      if (isFocused) list.querySelector("button")?.focus({ preventScroll: true });
    } catch (error) {
      if (isAbort(error)) return;
      this.close();
      showError(error);
    }
  }

  close(): void {
    this.#asking.abort();
    if (panel.hidden) return;
    panel.hidden = true;
    this.#word = null;
    this.#editor.setOff(null);
  }

  #show(rivals: Rival[], word: Word): void {
    const most = Math.max(...rivals.map(({ probability }) => probability), 1e-9);
    const rows = rivals.slice(0, 8).map(({ text, probability }) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.style.setProperty("--share", String(probability / most));
      const name = document.createElement("span");
      name.textContent = text.trim() === "" ? text.replaceAll("\n", "⏎").replaceAll(" ", "␣") : text.trim();
      const share = document.createElement("span");
      share.className = "figures";
      share.textContent = shareText(probability);
      button.append(name, share);
      if (text === word.text) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => this.#take(text));
      item.append(button);
      return item;
    });
    const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement as HTMLButtonElement);
    list.replaceChildren(...rows);
    if (focused >= 0) list.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
  }

  #take(text: string): void {
    const word = this.#word;
    this.close();
    if (word) this.#choose(word, text);
  }

  #onKey(event: KeyboardEvent): void {
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.#editor.area.focus({ preventScroll: true });
      this.close();
    } else if (to !== undefined && buttons.length > 0) {
      event.preventDefault();
      buttons[(to + buttons.length) % buttons.length]?.focus();
    }
  }

  /** Below its word, within the editor. */
  #place(word: Word): void {
    const box = this.#editor.area.getBoundingClientRect();
    const rect = this.#editor.rectOf(word.start, word.end);
    const left = Math.max(0, Math.min(rect.left - box.left, box.width - panel.offsetWidth));
    panel.style.left = `${left}px`;
    panel.style.top = `${rect.bottom - box.top + 6}px`;
  }
}
