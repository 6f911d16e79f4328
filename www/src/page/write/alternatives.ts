/** Three ways on, side by side: the arrows go from one to the other, Enter or a click takes one. */

import { isAbort } from "../../api/errors.js";
import type { GeneratedSequence, GenerateOptions, Generator } from "../../api/index.js";
import { announce, byId } from "../dom.js";
import type { Editor } from "./editor.js";
import { promptFor, SpaceEater } from "./prompt.js";
import { plain } from "./run.js";

const N_WAYS = 3;
/** Long enough to tell the ways apart, short enough to read all three. */
const MOST_TOKENS = 40;

const panel = byId("alternatives", HTMLElement);
const list = byId("ways", HTMLDivElement);
const againButton = byId("ways-again", HTMLButtonElement);

/** The panel of the three ways. */
export class Alternatives {
  readonly #editor: Editor;
  /** Called when one was taken. */
  readonly #taken: () => void;
  #controller = new AbortController();
  /** Settles, never rejects, when nothing is written any more. */
  #running: Promise<unknown> = Promise.resolve();
  /** Where the text goes on, in which version. */
  #from = { version: 0, caret: 0 };
  #texts: string[] = [];
  #recipes: ReturnType<typeof plain>[] = [];

  constructor(editor: Editor, taken: () => void) {
    [this.#editor, this.#taken] = [editor, taken];
    panel.addEventListener("keydown", (event) => this.#onKey(event));
    byId("ways-close", HTMLButtonElement).addEventListener("click", () => this.close());
  }

  get isOpen(): boolean {
    return !panel.hidden;
  }

  /** Writes three ways on from the caret. False where there is no text to go on from. */
  async write(generator: Generator, options: GenerateOptions): Promise<boolean> {
    this.#controller.abort();
    const controller = new AbortController();
    this.#controller = controller;
    await this.#running;
    const caret = this.#editor.caret;
    const asked = await promptFor(generator, this.#editor.text.slice(0, caret), MOST_TOKENS);
    if (!asked || controller.signal.aborted) return asked !== null;
    this.#from = { version: this.#editor.tree.current.id, caret };
    this.#texts = Array(N_WAYS).fill("");
    this.#recipes = [];
    this.#show();
    const eaters = this.#texts.map(() => new SpaceEater(asked.spaces));
    const run = this.#follow(generator, asked.prompt, eaters, {
      ...options,
      do_sample: true, // the likeliest text is one only
      num_return_sequences: N_WAYS,
      max_new_tokens: Math.min(MOST_TOKENS, options.max_new_tokens ?? MOST_TOKENS),
      signal: controller.signal,
    });
    this.#running = run.catch(() => undefined); // told below
    try {
      this.#recipes = (await run).map(({ recipe }) => plain(recipe));
      announce("Three ways on are written. Arrows choose, Enter takes one.");
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      if (this.#controller === controller) list.setAttribute("aria-busy", "false");
    }
    return true;
  }

  /** Shows the texts as they are written, all in one batch. */
  async #follow(
    generator: Generator,
    prompt: string | number[],
    eaters: SpaceEater[],
    options: GenerateOptions,
  ): Promise<GeneratedSequence[]> {
    const stream = generator.generate(prompt, options);
    const show = async (): Promise<void> => {
      for await (const { index, text } of stream) {
        this.#texts[index] += eaters[index]?.take(text) ?? "";
        const card = list.children[index];
        card?.removeAttribute("aria-label"); // its words are its name now
        if (card) card.textContent = (this.#texts[index] ?? "").trimStart();
      }
    };
    // Both are awaited together, since both reject when a run fails.
    const [{ sequences }] = await Promise.all([stream.result, show()]);
    return sequences;
  }

  /** Puts the panel away and stops writing. */
  close(): void {
    this.#controller.abort();
    if (panel.hidden) return;
    const hadFocus = panel.contains(document.activeElement);
    panel.hidden = true;
    if (hadFocus) this.#editor.area.focus({ preventScroll: true });
  }

  #show(): void {
    const cards = this.#texts.map((_, index) => {
      const card = document.createElement("button");
      card.type = "button";
      card.className = "way";
      card.setAttribute("aria-label", `Way ${index + 1}`);
      card.id = `way-${index}`;
      card.addEventListener("click", () => this.#take(index));
      return card;
    });
    list.replaceChildren(...cards);
    list.setAttribute("aria-busy", "true");
    panel.hidden = false;
    cards[0]?.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
  }

  /** The one that was chosen is shown; the others are branches beside it. */
  #take(chosen: number): void {
    if ((this.#texts[chosen] ?? "") === "") return;
    const { tree } = this.#editor;
    const { version, caret } = this.#from;
    const edits = this.#texts.map((inserted, index) => {
      const recipe = this.#recipes[index];
      return { at: caret, removed: 0, inserted, by: "model" as const, ...(recipe ? { recipe } : {}) };
    });
    let shown = version;
    for (const [index, edit] of edits.entries()) {
      if (edit.inserted === "") continue;
      const added = tree.addBeside(version, edit);
      if (index === chosen) shown = added.id;
    }
    tree.visit(shown);
    this.#editor.show();
    this.close();
    this.#editor.area.focus({ preventScroll: true });
    this.#taken();
  }

  #onKey(event: KeyboardEvent): void {
    const cards = [...list.children] as HTMLButtonElement[];
    const at = cards.indexOf(document.activeElement as HTMLButtonElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    } else if (step !== undefined && at >= 0) {
      event.preventDefault();
      cards[(at + step + cards.length) % cards.length]?.focus();
    } else if (/^[1-9]$/.test(event.key) && cards[Number(event.key) - 1]) {
      event.preventDefault();
      this.#take(Number(event.key) - 1);
    }
  }
}

/** Wires the button that writes three others. */
export function startAgain(act: () => void): void {
  againButton.addEventListener("click", act);
}
