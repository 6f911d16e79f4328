/** What `<gpt2-generator>` looks like: its shadow tree and style sheet. */

import { trustedMarkup } from "../api/trusted.js";
import { wear } from "./element-base.js";
import type { GeneratorMessages } from "./messages.js";
import { UNSEEN_STYLE } from "./unseen.js";

const STYLE = `
:host {
  --_accent: var(--gpt2-accent, color-mix(in srgb, #11a79f 64%, CanvasText));
  --_on-accent: var(--gpt2-on-accent, Canvas);
  --_muted: var(--gpt2-muted, color-mix(in srgb, currentColor 68%, transparent));
  --_line: var(--gpt2-line, color-mix(in srgb, currentColor 50%, transparent));
  --_wash: var(--gpt2-wash, color-mix(in srgb, var(--_accent) 12%, transparent));
  --_bad: var(--gpt2-bad, color-mix(in srgb, #ff3c46 63%, CanvasText));
  display: block;
  position: relative;
  font: inherit;
}
[hidden] { display: none !important; }
* { box-sizing: border-box; }
label { display: block; margin-bottom: 0.3em; font-weight: 600; }
textarea {
  display: block;
  width: 100%;
  min-height: 5em;
  padding: 0.5em 0.7em;
  border: 1px solid var(--_line);
  border-radius: var(--gpt2-radius, 0.5rem);
  background: transparent;
  color: inherit;
  font: inherit;
  line-height: 1.5;
  resize: vertical;
}
button {
  min-height: 2.4em;
  padding: 0.3em 1em;
  border: 1px solid var(--_line);
  border-radius: var(--gpt2-radius, 0.5rem);
  background: transparent;
  color: inherit;
  font: inherit;
  font-weight: 600;
  cursor: pointer;
}
button.main { border-color: var(--_accent); background: var(--_accent); color: var(--_on-accent); }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.row { display: flex; flex-wrap: wrap; gap: 0.5em 0.75em; align-items: center; margin-top: 0.6em; }
button:disabled, textarea:disabled { opacity: 0.55; cursor: not-allowed; }
.alternatives { display: inline-flex; gap: 0.4em; align-items: center; }
.alternatives button { padding-inline: 0.8em; }
.small { color: var(--_muted); font-size: 0.85em; font-variant-numeric: tabular-nums; }
progress { flex: 1 1 8em; accent-color: var(--_accent); }
.output {
  max-height: var(--gpt2-output-max-height, 24em);
  margin-top: 0.8em;
  overflow: auto;
  overflow-wrap: anywhere;
  white-space: pre-wrap;
  line-height: 1.6;
}
.echo { color: var(--_muted); }
.completion { border-radius: 0.2em; background: var(--_wash); }
.error {
  margin-top: 0.8em;
  padding: 0.7em 0.9em;
  border: 1px solid var(--_bad);
  border-left-width: 0.35em;
  border-radius: var(--gpt2-radius, 0.5rem);
}
.error p { margin: 0.3em 0; overflow-wrap: anywhere; }
.error .title { color: var(--_bad); font-weight: 600; }
.error .detail { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.85em; }
${UNSEEN_STYLE}`;

const TREE = `
<form part="form">
  <label part="label" for="prompt"><slot name="label" id="label"></slot></label>
  <textarea part="prompt" id="prompt" rows="3"></textarea>
  <div class="row" part="actions">
    <button part="button generate" class="main" id="generate" type="submit"></button>
    <button part="button stop" class="main" id="stop" type="button" hidden></button>
    <button part="button again" id="again" type="button" hidden></button>
    <button part="button copy" id="copy" type="button" hidden></button>
    <span part="alternatives" class="alternatives" id="alternatives" role="group" hidden
      ><button part="button previous" id="previous" type="button">‹</button
      ><span part="which" class="small" id="which"></span
      ><button part="button next" id="next" type="button">›</button></span>
    <span part="speed" class="small" id="speed"></span>
  </div>
</form>
<div part="loading" class="row" id="loading" hidden>
  <progress part="progress" id="progress" max="100"></progress>
  <span part="progress-text" class="small" id="progress-text"></span>
  <button part="button cancel" id="cancel" type="button"></button>
</div>
<div part="error" class="error" id="error" role="alert" hidden>
  <p part="error-title" class="title" id="error-title"></p>
  <p part="error-detail" class="detail" id="error-detail"></p>
  <p part="error-next" id="error-next"></p>
  <button part="button retry" id="retry" type="button"></button>
</div>
<div part="output" class="output" id="output" tabindex="0" role="region" hidden
  ><span part="prompt-echo" class="echo" id="echo"></span
  ><span part="completion" class="completion" id="completion"></span
></div>
<p class="unseen" id="announcer" role="status" aria-live="polite"></p>
`;

/** The parts of the shadow tree that change. */
export interface GeneratorView {
  form: HTMLFormElement;
  prompt: HTMLTextAreaElement;
  generate: HTMLButtonElement;
  stop: HTMLButtonElement;
  label: HTMLSlotElement;
  again: HTMLButtonElement;
  copy: HTMLButtonElement;
  alternatives: HTMLElement;
  previous: HTMLButtonElement;
  which: HTMLElement;
  next: HTMLButtonElement;
  speed: HTMLElement;
  loading: HTMLElement;
  progress: HTMLProgressElement;
  progressText: HTMLElement;
  cancel: HTMLButtonElement;
  error: HTMLElement;
  errorTitle: HTMLElement;
  errorDetail: HTMLElement;
  errorNext: HTMLElement;
  retry: HTMLButtonElement;
  output: HTMLElement;
  echo: HTMLElement;
  completion: HTMLElement;
  announcer: HTMLElement;
}

/** Builds the tree in `root` and hands out its parts. */
export function buildView(root: ShadowRoot): GeneratorView {
  const template = document.createElement("template");
  template.innerHTML = trustedMarkup(TREE);
  wear(root, STYLE);
  root.append(template.content);
  const find = <T extends HTMLElement>(selector: string): T => {
    const found = root.querySelector<T>(selector);
    if (!found) throw new Error(`the tree of <gpt2-generator> has no \`${selector}\``);
    return found;
  };
  return {
    form: find("form"),
    prompt: find("#prompt"),
    generate: find("#generate"),
    stop: find("#stop"),
    label: find("#label"),
    again: find("#again"),
    copy: find("#copy"),
    alternatives: find("#alternatives"),
    previous: find("#previous"),
    which: find("#which"),
    next: find("#next"),
    speed: find("#speed"),
    loading: find("#loading"),
    progress: find("#progress"),
    progressText: find("#progress-text"),
    cancel: find("#cancel"),
    error: find("#error"),
    errorTitle: find("#error-title"),
    errorDetail: find("#error-detail"),
    errorNext: find("#error-next"),
    retry: find("#retry"),
    output: find("#output"),
    echo: find("#echo"),
    completion: find("#completion"),
    announcer: find("#announcer"),
  };
}

/** Writes the words of the parts that always have the same. */
export function nameParts(view: GeneratorView, said: GeneratorMessages): void {
  for (const name of ["label", "generate", "stop", "cancel", "retry", "again", "copy"] as const)
    view[name].textContent = said[name];
  view.progress.setAttribute("aria-label", said.progressLabel);
  view.output.setAttribute("aria-label", said.outputLabel);
  for (const name of ["alternatives", "previous", "next"] as const) view[name].setAttribute("aria-label", said[name]);
}
