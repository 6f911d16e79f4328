/**
 * Write: one text that a person and the model write together.
 *
 * `editor.ts` shows it, `tree.ts` remembers all that it was; `run.ts` writes on, `alternatives.ts` three ways,
 * `rivals.ts` tells what else a word might have been, `text-count.ts` how long the text is. `sampling.ts` and
 * `presets.ts` are the settings, `adapter-choice.ts` whose manner it has, `branches.ts` the tree's panel, `share.ts`
 * links and files.
 */

import type { GenerateOptions, Generator } from "../../api/index.js";
import { isDeviceLost } from "../../elements/explain.js";
import { countText } from "../../elements/figures.js";
import { Gpt2AutocompleteElement } from "../../elements/index.js";
import { hideAlert, retry, showAlert, showError } from "../alert.js";
import { copy } from "../clipboard.js";
import { announce, byId, note, pageState, setState, swapFocus } from "../dom.js";
import { loadAgain, markLost, useEngine } from "../engine.js";
import { saveFile } from "../save-file.js";
import { startAdapterChoice } from "./adapter-choice.js";
import { Alternatives, startAgain } from "./alternatives.js";
import { Branches } from "./branches.js";
import { startDrawer } from "./drawer.js";
import { Editor, type Word, wordAt } from "./editor.js";
import { showPreset, startPresets } from "./presets.js";
import { RivalsPanel } from "./rivals-panel.js";
import { outcomeText, Run } from "./run.js";
import { ControlError, followGreedy, readOptions, startSampling, useSeed } from "./sampling.js";
import { linkTo, startImport, takeLink } from "./share.js";
import { clearCount, countSoon } from "./text-count.js";
import { TextTree } from "./tree.js";
import { keepTree, readTree, startKeeping } from "./tree-store.js";

const area = byId("text", HTMLTextAreaElement);
const generateButton = byId("generate", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const waysButton = byId("ways-button", HTMLButtonElement);
const undoButton = byId("undo", HTMLButtonElement);
const redoButton = byId("redo", HTMLButtonElement);
const copyButton = byId("copy", HTMLButtonElement);
const linkButton = byId("link", HTMLButtonElement);
const outcome = byId("outcome", HTMLParagraphElement);
const seedUsed = byId("seed-used", HTMLSpanElement);
const seedUsedValue = byId("seed-used-value", HTMLOutputElement);
const suggest = byId("suggest", HTMLInputElement);
const autocomplete = byId("ghost", Gpt2AutocompleteElement);
const branchesPanel = byId("branches", HTMLElement);

let generator: Generator | null = null;
let run: Run | null = null;
/** Settles, never rejects, when the run under way is over. */
let running: Promise<void> = Promise.resolve();
/** What is done as soon as a model is there, if it was asked for before. */
let waiting: (() => void) | null = null;

const editor = new Editor(new TextTree(area.defaultValue), changed);
const rivals = new RivalsPanel(editor, branchFrom);
const branches = new Branches(editor, changed);
const alternatives = new Alternatives(editor, changed);
const settingsDrawer = startDrawer("settings");
startDrawer("branches", () => branches.show());

/** After each change of the text. */
function changed(): void {
  rivals.close();
  showButtons();
  keepTree(() => editor.tree.toJson());
  countSoon(() => ({ generator, text: editor.text }));
  if (!branchesPanel.hidden && !branchesPanel.contains(document.activeElement)) branches.show();
}

function showButtons(): void {
  const isWriting = pageState() === "generating";
  // One button is shown and gets the focus before the other is hidden, since a hidden element loses the focus.
  if (isWriting && stopButton.hidden) {
    stopButton.hidden = false;
    swapFocus(generateButton, stopButton);
    generateButton.hidden = true;
  } else if (!isWriting && generateButton.hidden) {
    generateButton.hidden = false;
    swapFocus(stopButton, generateButton);
    stopButton.hidden = true;
  }
  generateButton.textContent = waiting ? "Waiting for the model…" : "Write on";
  waysButton.disabled = isWriting;
  undoButton.disabled = isWriting || !editor.tree.canUndo;
  redoButton.disabled = isWriting || !editor.tree.canRedo;
  copyButton.disabled = linkButton.disabled = editor.text === "";
}

/** The options that the controls say; null where one of them is not valid, which is told. */
function options(): GenerateOptions | null {
  try {
    return readOptions();
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    const show = (): void => {
      settingsDrawer.open();
      const folded = error.control.closest("details");
      if (folded) folded.open = true;
      error.control.focus();
    };
    showAlert(error.explanation(), { label: "Show the setting", act: show });
    return null;
  }
}

function failed(error: unknown, again: () => void): void {
  outcome.textContent = "Broken off: see the message above.";
  if (isDeviceLost(error)) {
    generator = null;
    markLost();
    showError(error, retry(loadAgain));
    return;
  }
  setState("ready");
  showError(error, retry(again));
}

function nothingToGoOnFrom(): void {
  outcome.textContent = "Write a few words first: the model goes on from them.";
  announce(outcome.textContent);
  area.focus();
}

async function writeOn(): Promise<void> {
  const asked = options();
  if (generator === null || asked === null) return;
  const mine = new Run();
  run = mine;
  hideAlert();
  alternatives.close();
  rivals.close();
  autocomplete.dismiss();
  outcome.textContent = "";
  seedUsed.hidden = true;
  setState("generating");
  showButtons();
  announce("Writing.");
  try {
    const speed = (text: string): void => {
      outcome.textContent = text;
    };
    const ended = await mine.write(generator, editor, asked, { speed });
    setState("ready");
    if (!ended) return nothingToGoOnFrom();
    const { result, firstMs } = ended;
    outcome.textContent = outcomeText(result, asked, firstMs);
    const { seed } = result.recipe;
    seedUsed.hidden = asked.do_sample !== true || seed === undefined || seed === null;
    seedUsedValue.textContent = seedUsed.hidden ? "" : String(seed);
    announce(`Finished: ${countText(result.usage.completion_tokens, "token")}.`);
  } catch (error) {
    failed(error, begin);
  } finally {
    run = null;
    changed();
  }
}

async function writeWays(): Promise<void> {
  const asked = options();
  if (generator === null || asked === null) return;
  hideAlert();
  rivals.close();
  autocomplete.dismiss();
  try {
    if (!(await alternatives.write(generator, asked))) nothingToGoOnFrom();
  } catch (error) {
    failed(error, beginWays);
  }
}

/** Does something with the model now, or when it is there. */
function withModel(act: () => Promise<void>): void {
  if (pageState() === "generating") return;
  if (generator === null) {
    waiting = () => withModel(act);
    if (pageState() === "failed") loadAgain();
    showButtons();
    return;
  }
  running = act().catch((error: unknown) => showError(error));
}

const begin = (): void => withModel(writeOn);
const beginWays = (): void => withModel(writeWays);

/** A rival stands in a word's place, and the model goes on from there. */
function branchFrom(word: Word, text: string): void {
  editor.tree.add({ at: word.start, removed: editor.text.length - word.start, inserted: text, by: "model" });
  editor.show();
  area.focus({ preventScroll: true });
  changed();
  begin();
}

function step(to: "undo" | "redo"): void {
  if (pageState() === "generating") return;
  editor.tree[to]();
  editor.show();
  changed();
}

/** Opens the rivals of the word at the caret. */
function openRivals(isFocused: boolean): void {
  const word = wordAt(editor.text, Math.min(editor.caret, Math.max(0, editor.text.length - 1)));
  if (word && generator && pageState() === "ready") void rivals.open(generator, word, isFocused);
}

function pressed(): void {
  const { selectionStart: place, selectionEnd } = area;
  const isOnModels = editor.marks.some(([start, end]) => start <= place && place < end);
  if (place === selectionEnd && isOnModels) openRivals(false);
  else rivals.close();
}

function onKey(event: KeyboardEvent): void {
  if (event.isComposing || byId("view-write", HTMLElement).hidden) return;
  const isCommand = event.ctrlKey || event.metaKey;
  const inText = document.activeElement === area;
  if (event.key === "Escape" && pageState() === "generating") run?.stop();
  else if (event.key === "Escape" && rivals.isOpen) rivals.close();
  else if (event.key === "Enter" && isCommand && event.shiftKey) beginWays();
  else if (event.key === "Enter" && isCommand) begin();
  else if (event.key === "Enter" && event.altKey && inText) openRivals(true);
  else if (inText && isCommand && event.key.toLowerCase() === "z") step(event.shiftKey ? "redo" : "undo");
  else if (inText && event.ctrlKey && event.key === "y") step("redo");
  else return;
  event.preventDefault();
}

async function detach(): Promise<void> {
  run?.stop();
  alternatives.close();
  rivals.close();
  autocomplete.disabled = true; // it would load a model of its own
  autocomplete.generator = null;
  await running;
  generator = null;
  clearCount();
  showButtons();
}

function attach(loaded: Generator): void {
  generator = loaded;
  autocomplete.generator = loaded;
  autocomplete.disabled = !suggest.checked;
  const act = waiting;
  waiting = null;
  showButtons();
  countSoon(() => ({ generator, text: editor.text }));
  act?.();
}

function showTree(tree: TextTree): void {
  editor.tree = tree;
  editor.show();
  changed();
  if (!branchesPanel.hidden) branches.show();
}

function wireText(): void {
  area.addEventListener("click", pressed);
  area.addEventListener("beforeinput", (event) => {
    // Typing takes over from the model.
    if (pageState() === "generating") run?.stop();
    if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
    event.preventDefault();
    step(event.inputType === "historyUndo" ? "undo" : "redo");
  });
  autocomplete.addEventListener("gpt2-accept", (event) => {
    editor.tree.creditModel(event.detail.text);
    editor.show();
    changed();
  });
  suggest.addEventListener("change", () => {
    autocomplete.disabled = !suggest.checked;
  });
}

function wireButtons(): void {
  byId("write-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  stopButton.addEventListener("click", () => run?.stop());
  waysButton.addEventListener("click", beginWays);
  startAgain(beginWays);
  undoButton.addEventListener("click", () => step("undo"));
  redoButton.addEventListener("click", () => step("redo"));
  copyButton.addEventListener("click", () => void copy(editor.text, copyButton));
  linkButton.addEventListener("click", () => void copy(linkTo(editor.text), linkButton));
  byId("export", HTMLButtonElement).addEventListener("click", () =>
    saveFile("gpt2-text.json", new Blob([JSON.stringify(editor.tree.toJson(), null, 1)], { type: "application/json" })),
  );
  byId("forget", HTMLButtonElement).addEventListener("click", () => showTree(new TextTree("")));
  startImport(showTree);
  byId("reuse-seed", HTMLButtonElement).addEventListener("click", () => {
    useSeed(seedUsedValue.textContent ?? "");
    announce("The seed is set.");
  });
  document.addEventListener("keydown", onKey);
}

/** Wires the view. The text of a link comes first, then what was typed meanwhile, then that of the last visit. */
export async function start(): Promise<void> {
  startSampling(showPreset);
  startPresets(followGreedy);
  startAdapterChoice();
  wireText();
  wireButtons();
  startKeeping();
  const linked = takeLink();
  const kept = await readTree();
  const typed = area.value; // typing goes on until the tree is there
  if (linked && linked.refused.length > 0) note(`The link asks for ${linked.refused.join(" and ")}, which cannot be.`);
  const tree = kept ?? editor.tree;
  if (linked) tree.add({ at: 0, removed: tree.read().text.length, inserted: linked.text, by: "you" });
  else if (typed !== area.defaultValue)
    tree.add({ at: 0, removed: tree.read().text.length, inserted: typed, by: "you" });
  showTree(tree);
  followGreedy();
  showPreset();
  useEngine({ attach, detach });
}
