/** The text's branches as a nested list: the forks, the ends, and what has a name; each can be opened and named. */

import { announce, byId } from "../dom.js";
import type { Editor } from "./editor.js";
import type { Version } from "./tree.js";

const list = byId("branch-list", HTMLUListElement);
const LENGTH = 56;
/** A change that takes away more than this, in UTF-16 units, is worth a line: what it took is found there. */
const MUCH = 20;

/** The panel's list. */
export class Branches {
  readonly #editor: Editor;
  /** Called when another version is shown, or has a name. */
  readonly #changed: () => void;

  constructor(editor: Editor, changed: () => void) {
    [this.#editor, this.#changed] = [editor, changed];
    list.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Draws the list anew. */
  show(): void {
    const { tree } = this.#editor;
    const [root] = tree.versions;
    if (!root) throw new Error("a text's tree has a first version");
    const children = new Map<number | null, Version[]>();
    for (const version of tree.versions) {
      const siblings = children.get(version.parent) ?? [];
      siblings.push(version);
      children.set(version.parent, siblings);
    }
    const below = (id: number) => children.get(id) ?? [];
    const current = tree.current.id;
    /** Goes down to the next version that is worth a line; a stretch without a fork is one. */
    const stretch = (version: Version): Version[] => {
      const way = [version];
      for (let last = version; ; ) {
        const [only, ...others] = below(last.id);
        if (!only || others.length > 0 || last.name !== undefined || last.id === current) return way;
        if (only.removed > MUCH) return way;
        way.push(only);
        last = only;
      }
    };
    const item = (first: Version): HTMLLIElement => {
      const way = stretch(first);
      const last = way.at(-1) ?? first;
      const li = document.createElement("li");
      li.append(this.#line(way, last, last.id === current));
      const nested = below(last.id);
      if (nested.length > 0) {
        const ul = document.createElement("ul");
        ul.append(...nested.map(item));
        li.append(ul);
      }
      return li;
    };
    list.replaceChildren(item(root));
  }

  #line(way: Version[], last: Version, isCurrent: boolean): HTMLDivElement {
    const line = document.createElement("div");
    line.className = "branch";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "open";
    const words = way.map(({ inserted }) => inserted).join("");
    const short = words.trim().replace(/\s+/g, " ");
    const excerpt = short.length > LENGTH ? `${short.slice(0, LENGTH)}…` : short;
    button.textContent = last.name ?? (excerpt === "" ? "(taken away)" : excerpt);
    button.dataset.by = last.by;
    if (isCurrent) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      this.#editor.tree.visit(last.id);
      this.#editor.show();
      this.show();
      list.querySelector<HTMLElement>('[aria-current="true"]')?.focus();
      announce("Another branch is shown.");
      this.#changed();
    });
    const rename = document.createElement("button");
    rename.type = "button";
    rename.className = "link";
    rename.textContent = "Name";
    rename.setAttribute("aria-label", `Name “${button.textContent}”`);
    rename.addEventListener("click", () => this.#rename(line, last));
    line.append(button, rename);
    return line;
  }

  #rename(line: HTMLElement, version: Version): void {
    const input = document.createElement("input");
    input.value = version.name ?? "";
    input.setAttribute("aria-label", "Name of this branch");
    let isDone = false;
    const end = (isKept: boolean): void => {
      if (isDone) return;
      isDone = true;
      const name = input.value.trim();
      if (isKept && name !== "") version.name = name;
      if (isKept && name === "") delete version.name;
      this.show();
      list.querySelector<HTMLElement>('[aria-current="true"]')?.focus();
      this.#changed();
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter");
    });
    input.addEventListener("blur", () => end(true));
    line.replaceChildren(input);
    input.focus();
  }

  #onKey(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...list.querySelectorAll<HTMLButtonElement>("button.open")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    buttons[at + step]?.focus();
  }
}
