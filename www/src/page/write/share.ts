/** Taking the text along: a link that carries text, settings and seed, and the tree as a file. */

import { messageOf } from "../../api/errors.js";
import { showAlert } from "../alert.js";
import { byId } from "../dom.js";
import { readControls, writeControls } from "../settings.js";
import { TextTree } from "./tree.js";

/** What a link carries beside the text, behind `#`, where no server sees it. */
const LINKED = [
  "max_new_tokens",
  "greedy",
  "temperature",
  "top_k",
  "top_p",
  "min_p",
  "seed",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "no_repeat_ngram_size",
  "min_new_tokens",
  "past_end",
  "more_options",
  "stop_strings",
  "context_overflow",
] as const;

/** The address that opens the page with this text. Settings that stand as usual are left out. */
export function linkTo(text: string): string {
  const url = new URL(location.href);
  url.search = "?view=write";
  url.hash = new URLSearchParams({ text, ...readControls(LINKED) }).toString();
  return url.href;
}

/** The text that the address carries, or null; its settings are set. Controls that cannot hold theirs are named. */
export function takeLink(): { text: string; refused: string[] } | null {
  const carried = new URLSearchParams(location.hash.slice(1));
  const text = carried.get("text");
  if (text === null) return null;
  const refused = writeControls(LINKED, carried);
  // Taken once: a reload goes on with the text as it was changed since.
  history.replaceState(null, "", location.pathname + location.search);
  return { text, refused };
}

/** Wires the picker of an exported tree. */
export function startImport(imported: (tree: TextTree) => void): void {
  const input = byId("import", HTMLInputElement);
  const read = async (file: File): Promise<void> => {
    try {
      imported(TextTree.fromJson(JSON.parse(await file.text())));
    } catch (error) {
      showAlert({
        title: "This file is no exported text",
        detail: `${file.name}: ${messageOf(error)}`,
        next: "Choose a file that Export made.",
      });
    }
  };
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    input.value = "";
    if (file) void read(file);
  });
}
