/** What `<gpt2-surprise>` looks like: its shadow tree and style sheet. */

import { trustedMarkup } from "../api/trusted.js";
import { wear } from "./element-base.js";
import { UNSEEN_STYLE } from "./unseen.js";

const STYLE = `
:host {
  --_accent: var(--gpt2-accent, color-mix(in srgb, #11a79f 64%, CanvasText));
  --_muted: var(--gpt2-muted, color-mix(in srgb, currentColor 68%, transparent));
  --_wash: var(--gpt2-wash, color-mix(in srgb, var(--_accent) 12%, transparent));
  --_bad: var(--gpt2-bad, color-mix(in srgb, #ff3c46 63%, CanvasText));
  --_band-1: var(--gpt2-band-1, color-mix(in srgb, #e9b400 32%, Canvas));
  --_band-2: var(--gpt2-band-2, color-mix(in srgb, #ed7700 43%, Canvas));
  --_band-3: var(--gpt2-band-3, color-mix(in srgb, #d63949 49%, Canvas));
  --_hot: var(--gpt2-hot, color-mix(in srgb, #d85735 79%, Canvas));
  --_cool: var(--gpt2-cool, color-mix(in srgb, #3182cc 70%, Canvas));
  display: block;
  position: relative;
  font: inherit;
}
[hidden] { display: none !important; }
* { box-sizing: border-box; }
.text {
  line-height: 1.9;
  overflow-wrap: anywhere;
  user-select: none;
  -webkit-user-select: none;
  touch-action: pan-y;
  white-space: pre-wrap;
}
.text:focus { outline: none; }
.text:focus-visible .at .ink { outline: 2px solid var(--_accent); outline-offset: 1px; }
.token { position: relative; cursor: pointer; }
.ink {
  border-radius: 0.15em;
  text-decoration-color: color-mix(in srgb, currentColor 55%, transparent);
  text-decoration-thickness: 1px;
  text-underline-offset: 0.25em;
}
[data-band="1"] .ink { background: var(--_band-1); text-decoration-line: underline; text-decoration-style: dotted; }
[data-band="2"] .ink { background: var(--_band-2); text-decoration-line: underline; text-decoration-style: dashed; }
[data-band="3"] .ink { background: var(--_band-3); text-decoration-line: underline; text-decoration-style: solid; }
[data-hot] .ink { background: color-mix(in srgb, var(--_hot) calc(var(--share) * 100%), transparent); }
[data-cool] .ink { background: color-mix(in srgb, var(--_cool) calc(var(--share) * 100%), transparent); }
[data-weight] .ink { box-shadow: 0 calc(var(--weight) * 0.4em) 0 var(--_accent); }
[data-breaks] .ink::before { content: "⏎"; color: var(--_muted); }
[aria-selected="true"] .ink { outline: 2px solid currentColor; outline-offset: 1px; }
.token:hover .ink { outline: 2px solid var(--_accent); outline-offset: 1px; }
.numbered .text { line-height: 2.7; }
.numbered .token:not([data-breaks]) { display: inline-block; min-width: 2.3em; line-height: 1.3; white-space: pre; }
.numbered .token::after {
  content: attr(data-number);
  position: absolute;
  inset-inline-start: 0.4em;
  top: 2em;
  color: var(--_muted);
  font: 0.6875rem/1 system-ui, sans-serif;
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
}
.numbered [data-breaks]::after { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3em 1.1em; margin: 0.8em 0 0; padding: 0; }
.legend { list-style: none; font-size: 0.85em; }
.legend i { display: inline-block; width: 1.1em; height: 0.9em; margin-inline-end: 0.4em; vertical-align: -0.1em; }
.legend i { border: 1px solid var(--_muted); border-radius: 0.2em; }
.detail { min-height: 3.2em; margin-top: 0.8em; font-size: 0.9em; font-variant-numeric: tabular-nums; }
.detail p { margin: 0; }
.rivals { display: flex; flex-wrap: wrap; gap: 0.3em 0.5em; margin: 0.4em 0 0; padding: 0; list-style: none; }
.rivals li { padding: 0.05em 0.5em; border-radius: 1em; background: var(--_wash); white-space: pre; }
.rivals span { color: var(--_muted); font-size: 0.9em; }
.small { color: var(--_muted); font-size: 0.85em; }
.note.failed { color: var(--_bad); }
button {
  min-height: 2.4em;
  margin-top: 0.6em;
  padding: 0.3em 1em;
  border: 1px solid var(--_accent);
  border-radius: var(--gpt2-radius, 0.5rem);
  background: transparent;
  color: inherit;
  font: inherit;
  font-weight: 600;
  cursor: pointer;
}
button:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
@media (forced-colors: active) {
  [data-weight] .ink { border-bottom: calc(var(--weight) * 0.4em) solid Highlight; }
  [aria-selected="true"] .ink { outline-color: Highlight; }
}
${UNSEEN_STYLE}`;

const TREE = `
<div id="frame">
  <div part="text" id="text" class="text" role="listbox" aria-multiselectable="true" tabindex="0"></div>
  <p part="note" id="note" class="note small" hidden></p>
  <button part="button load" id="load" type="button" hidden></button>
  <ul part="legend" id="legend" class="legend" hidden></ul>
  <div part="detail" id="detail" class="detail" hidden>
    <p id="said"></p>
    <ol part="rivals" id="rivals" class="rivals"></ol>
  </div>
</div>
<p class="unseen" id="announcer" role="status" aria-live="polite"></p>
`;

/** The parts of the shadow tree that change. */
export interface SurpriseView {
  frame: HTMLElement;
  text: HTMLElement;
  note: HTMLElement;
  load: HTMLElement;
  legend: HTMLElement;
  detail: HTMLElement;
  said: HTMLElement;
  rivals: HTMLElement;
  announcer: HTMLElement;
}

/** Builds the tree in `root` and hands out its parts. */
export function buildSurpriseView(root: ShadowRoot): SurpriseView {
  const template = document.createElement("template");
  template.innerHTML = trustedMarkup(TREE);
  wear(root, STYLE);
  root.append(template.content);
  const find = (id: string): HTMLElement => {
    const found = root.getElementById(id);
    if (!found) throw new Error(`the tree of <gpt2-surprise> has no #${id}`);
    return found;
  };
  return {
    frame: find("frame"),
    text: find("text"),
    note: find("note"),
    load: find("load"),
    legend: find("legend"),
    detail: find("detail"),
    said: find("said"),
    rivals: find("rivals"),
    announcer: find("announcer"),
  };
}
