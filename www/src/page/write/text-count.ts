/** How many tokens the text has, told a moment after it has changed. */

import type { Generator } from "../../api/index.js";
import { countText } from "../../elements/figures.js";
import { showError } from "../alert.js";
import { byId } from "../dom.js";

const DELAY_MS = 200;

const shown = byId("text-count", HTMLSpanElement);

let timer: ReturnType<typeof setTimeout> | undefined;

/** What is counted: the model, and the text as it is then. */
interface Counted {
  generator: Generator | null;
  text: string;
}

async function count(now: () => Counted): Promise<void> {
  const { generator, text } = now();
  if (generator === null) return;
  try {
    const n = await generator.tokenizer.count(text);
    // The answer is of no use if the text or the model has changed meanwhile.
    if (generator !== now().generator || text !== now().text) return;
    const nCtx = generator.info.context_window;
    const remark = n > nCtx ? `; the model reads the newest ${nCtx.toLocaleString()}` : "";
    shown.textContent = countText(n, "token") + remark;
  } catch (error) {
    // That the model is gone is shown elsewhere.
    if (now().generator !== null) showError(error);
  }
}

/** Shows none. */
export function clearCount(): void {
  shown.textContent = "";
}

/** Counts soon. */
export function countSoon(now: () => Counted): void {
  clearTimeout(timer);
  timer = setTimeout(() => void count(now), DELAY_MS);
}
