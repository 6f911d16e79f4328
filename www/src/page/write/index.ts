/** Prompt in, text out: generate, stop, continue, copy, clear. */

import { messageOf } from "../../api/errors.js";
import type {
  GenerateOptions,
  GenerationResult,
  GenerationStream,
  Generator,
  PromptProgress,
} from "../../api/index.js";
import { isDeviceLost } from "../../elements/explain.js";
import { countText, durationText, promptText, rateText } from "../../elements/figures.js";
import { GrowingText } from "../../elements/growing-text.js";
import { hideAlert, retry, showAlert, showError } from "../alert.js";
import { announce, byId, pageState, setState, swapFocus } from "../dom.js";
import { loadAgain, markLost, useEngine } from "../engine.js";
import { ControlError, readOptions, startSampling, useSeed } from "./sampling.js";

const prompt = byId("prompt", HTMLTextAreaElement);
const promptCount = byId("prompt-count", HTMLSpanElement);
const generateButton = byId("generate", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const continueButton = byId("continue", HTMLButtonElement);
const copyButton = byId("copy", HTMLButtonElement);
const clearButton = byId("clear", HTMLButtonElement);
const output = byId("output", HTMLDivElement);
const empty = byId("output-empty", HTMLParagraphElement);
const echo = byId("prompt-echo", HTMLSpanElement);
const completion = byId("completion", HTMLSpanElement);
const outcome = byId("outcome", HTMLParagraphElement);
const speed = byId("speed", HTMLSpanElement);
const seedUsed = byId("seed-used", HTMLSpanElement);
const seedUsedValue = byId("seed-used-value", HTMLOutputElement);

const COUNT_DELAY_MS = 150;

let generator: Generator | null = null;
let stream: GenerationStream | null = null;
/** Settles, never rejects, when the run under way is over. */
let running: Promise<void> = Promise.resolve();

function writtenText(): string {
  return (echo.textContent ?? "") + (completion.textContent ?? "");
}

function showButtons(): void {
  const generating = pageState() === "generating";
  const written = writtenText() !== "";
  generateButton.disabled = generator === null;
  copyButton.disabled = !written;
  clearButton.disabled = generating || !written;
  empty.hidden = written || generating;
  // One button is shown and gets the focus before the other is hidden, since a hidden element loses the focus.
  if (generating && stopButton.hidden) {
    stopButton.hidden = false;
    swapFocus(generateButton, stopButton);
    swapFocus(continueButton, stopButton);
    generateButton.hidden = true;
  } else if (!generating && generateButton.hidden) {
    generateButton.hidden = false;
    swapFocus(stopButton, generateButton);
    stopButton.hidden = true;
  }
  continueButton.disabled = generator === null || generating || !written;
}

function why(result: GenerationResult, options: GenerateOptions): string {
  switch (result.finish_reason) {
    case "interrupt":
      return "stopped by you";
    case "stop":
      return options.stop === undefined ? "the model ended the text" : "ended, or came to a stop text";
    case "length":
      return result.usage.completion_tokens >= (options.max_new_tokens ?? Infinity)
        ? "reached the most new tokens"
        : "the model’s window is full";
  }
}

function showResult(result: GenerationResult, options: GenerateOptions): void {
  const written = countText(result.usage.completion_tokens, "token");
  const read = countText(result.usage.prompt_tokens, "token");
  outcome.textContent = `${written} after ${read} of beginning · ${why(result, options)}`;
  speed.textContent = [rateText(result.timings.predicted_per_second), speed.dataset.first ?? ""]
    .filter((part) => part !== "")
    .join(" · ");
  const seed = result.recipe.seed;
  seedUsed.hidden = options.do_sample !== true || seed === undefined || seed === null;
  seedUsedValue.textContent = seedUsed.hidden ? "" : String(seed);
  announce(`Finished: ${written}, ${why(result, options)}.`);
}

/** Shows the pieces as they come, and how fast. */
async function follow(pieces: GenerationStream, text: Text): Promise<void> {
  const beganMs = performance.now();
  let firstMs = 0;
  let lastMs = 0;
  let nTokens = 0;
  const growing = new GrowingText(text, output, () => {
    // The first token belongs to reading the prompt, so the rate counts from it on.
    const rate = lastMs > firstMs ? `${rateText(((nTokens - 1) * 1000) / (lastMs - firstMs))} · ` : "";
    speed.textContent = `${rate}${speed.dataset.first ?? ""}`;
  });
  try {
    for await (const chunk of pieces) {
      lastMs = performance.now();
      // Text without a token was held back for a stop text, and does not count.
      if (chunk.token_id !== null) nTokens += 1;
      if (firstMs === 0) {
        firstMs = lastMs;
        speed.dataset.first = `first token after ${durationText(firstMs - beganMs)}`;
      }
      growing.push(chunk.text);
    }
  } finally {
    growing.show();
  }
}

function failed(error: unknown, again: () => void): void {
  outcome.textContent = writtenText() === "" ? "" : "Broken off: see the message above.";
  announce("Writing failed.");
  if (isDeviceLost(error)) {
    markLost();
    generator = null;
    showError(error, retry(loadAgain));
    return;
  }
  setState("ready");
  showError(error, retry(again));
}

/** One run from `beginning`. `keepText`: the run goes on from what stands in the output. */
async function write(beginning: string, keepText: boolean): Promise<void> {
  if (generator === null || pageState() === "generating") return;
  let options: GenerateOptions;
  try {
    options = readOptions();
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    showAlert(error.explanation(), { label: "Show the setting", act: () => error.show() });
    return;
  }
  hideAlert();
  if (!keepText) {
    echo.textContent = beginning;
    completion.replaceChildren();
  }
  // Each run has a text node of its own, so that the text before it need not be laid out again.
  const text = document.createTextNode("");
  completion.append(text);
  outcome.textContent = "";
  speed.textContent = "";
  delete speed.dataset.first;
  seedUsed.hidden = true;
  setState("generating");
  showButtons();
  announce("Writing.");
  try {
    const progressCallback = (event: PromptProgress) => {
      speed.textContent = promptText(event);
    };
    stream = generator.generate(beginning, { ...options, progress_callback: progressCallback });
    await follow(stream, text); // to its end, so that all of the text is shown also if the run fails
    const result = await stream.result;
    setState("ready");
    showResult(result, options);
  } catch (error) {
    failed(error, () => begin(beginning, keepText));
  } finally {
    stream = null;
    showButtons();
  }
}

function begin(beginning: string, keepText: boolean): void {
  running = write(beginning, keepText).catch((error: unknown) => showError(error));
}

function stop(): void {
  stream?.interrupt();
}

async function copy(): Promise<void> {
  try {
    await navigator.clipboard.writeText(writtenText());
    copyButton.textContent = "Copied";
    announce("Copied.");
    setTimeout(() => {
      copyButton.textContent = "Copy";
    }, 1500);
  } catch (error) {
    showAlert({
      title: "The browser did not let this page copy",
      detail: messageOf(error),
      next: "Select the text and copy it with the keyboard.",
    });
  }
}

function clear(): void {
  echo.textContent = "";
  completion.replaceChildren();
  outcome.textContent = "";
  speed.textContent = "";
  seedUsed.hidden = true;
  showButtons();
  prompt.focus();
  announce("Cleared.");
}

let countTimer: ReturnType<typeof setTimeout> | undefined;

async function showCount(): Promise<void> {
  const counting = generator;
  const text = prompt.value;
  if (counting === null) return;
  const n = await counting.tokenizer.count(text);
  // The answer is of no use if the text or the model has changed meanwhile.
  if (counting !== generator || text !== prompt.value) return;
  const nCtx = counting.info.context_window;
  promptCount.textContent = `${n.toLocaleString("en")} of ${countText(nCtx, "token")}${n >= nCtx ? ": too long" : ""}`;
}

function countSoon(): void {
  clearTimeout(countTimer);
  countTimer = setTimeout(() => {
    showCount().catch((error: unknown) => {
      // That the model is gone is shown elsewhere.
      promptCount.textContent = generator === null ? "" : `not counted: ${String(error)}`;
    });
  }, COUNT_DELAY_MS);
}

function attach(loaded: Generator): void {
  generator = loaded;
  showButtons();
  countSoon();
}

/** Stops what the model is doing and lets go of it. */
async function detach(): Promise<void> {
  stop();
  await running;
  generator = null;
  promptCount.textContent = "";
  showButtons();
}

/** Wires the prompt, the buttons and the keys. */
export function start(): void {
  startSampling();
  useEngine({ attach, detach });
  byId("write-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    begin(prompt.value, false);
  });
  stopButton.addEventListener("click", stop);
  continueButton.addEventListener("click", () => begin(writtenText(), true));
  copyButton.addEventListener("click", () => void copy());
  clearButton.addEventListener("click", clear);
  byId("reuse-seed", HTMLButtonElement).addEventListener("click", () => {
    useSeed(seedUsedValue.textContent ?? "");
    announce("The seed is set.");
  });
  prompt.addEventListener("input", countSoon);
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape" && pageState() === "generating") {
      event.preventDefault();
      stop();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && pageState() !== "generating") {
      event.preventDefault();
      begin(prompt.value, false);
    }
  });
  showButtons();
}
