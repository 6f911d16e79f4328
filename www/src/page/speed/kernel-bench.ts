/**
 * The bench of the CPU's kernels: shows what its worker (bench-worker.ts) measures.
 *
 * The address may name `dtype`, `threads` and the model's shape: `?n_layer=2&n_embd=64&n_head=4&vocab_size=512`.
 */

import { filesFor } from "../../api/worker-files.js";
import { announce, byId, note, swapFocus } from "../dom.js";
import type { BenchDtype, FromBench, Profile, Setup, Speed } from "./bench-worker.js";

const form = byId("bench-setup", HTMLFormElement);
const dtype = byId("bench-dtype", HTMLSelectElement);
const threads = byId("bench-threads", HTMLSelectElement);
const run = byId("bench-run", HTMLButtonElement);
const cancel = byId("bench-cancel", HTMLButtonElement);
const running = byId("bench-running", HTMLDivElement);
const progress = byId("bench-progress", HTMLProgressElement);
const progressText = byId("bench-progress-text", HTMLParagraphElement);
const status = byId("bench-status", HTMLParagraphElement);
const results = byId("bench-results", HTMLElement);
const breakdown = byId("breakdown", HTMLElement);
const setupUsed = byId("setup-used", HTMLParagraphElement);
const speeds = byId("speeds", HTMLTableSectionElement);
const profilesHead = byId("profiles-head", HTMLTableSectionElement);
const profiles = byId("profiles", HTMLTableSectionElement);

const GPT2 = { vocab_size: 50257, n_positions: 1024, n_embd: 768, n_layer: 12, n_head: 12 };
const asked = new URLSearchParams(location.search);
let worker: Worker | undefined;

/** The shape of GPT-2 124M, changed by what the address says. Refuses what the kernels cannot run. */
function shapes(): typeof GPT2 {
  const dims = { ...GPT2 };
  for (const name of Object.keys(dims) as (keyof typeof GPT2)[]) {
    const value = asked.get(name);
    if (value === null) continue;
    dims[name] = Number(value);
    if (!Number.isInteger(dims[name]) || dims[name] < 1)
      throw new Error(`${name}: expected a whole number of at least 1, found ${value}`);
  }
  const least = 514; // the longest prompt, and the tokens after it
  if (dims.n_positions < least) throw new Error(`n_positions: expected at least ${least}, found ${dims.n_positions}`);
  if (dims.n_embd % dims.n_head !== 0)
    throw new Error(`n_embd: expected a multiple of n_head (${dims.n_head}), found ${dims.n_embd}`);
  return dims;
}

function begin(): void {
  let setup: Setup;
  try {
    setup = {
      ...shapes(),
      dtype: dtype.value as BenchDtype,
      threads: threads.value === "auto" ? "auto" : Number(threads.value),
      files: filesFor(undefined),
    };
  } catch (error) {
    end("failed", (error as Error).message);
    return;
  }
  for (const body of [speeds, profiles, profilesHead]) body.replaceChildren();
  results.hidden = breakdown.hidden = true;
  running.hidden = false;
  swapFocus(run, cancel);
  run.disabled = true;
  progress.removeAttribute("value");
  status.dataset.state = "measuring";
  status.textContent = "Measuring…";
  announce("Measuring");

  const shown: Profile[] = [];
  worker = new Worker(new URL("./page-bench-worker.js", import.meta.url), { type: "module", name: "gpt2-web bench" });
  worker.onerror = (event) => end("failed", event.message || "the worker could not be started");
  worker.onmessage = ({ data }: MessageEvent<FromBench>) => {
    switch (data.kind) {
      case "step":
        progress.max = data.n_steps;
        progress.value = data.n_done;
        progressText.textContent = data.text;
        break;
      case "ready": {
        const { n_layer, n_embd } = setup;
        const words = [
          `${n_layer} layers of width ${n_embd}`,
          setup.dtype,
          `${(data.n_bytes / 1e6).toFixed(1)} MB`,
          data.threads === 1 ? "1 thread" : `${data.threads} threads`,
        ];
        setupUsed.textContent = words.join(" · ") + (data.remark ? ` (${data.remark})` : "");
        break;
      }
      case "speed":
        results.hidden = false;
        speeds.append(speedRow(data.speed));
        break;
      case "profile":
        shown.push(data.profile);
        breakdown.hidden = false;
        showProfiles(shown);
        break;
      case "done":
        end("ready", "Done.");
        break;
      case "failed":
        end("failed", data.message);
        break;
      default:
        throw new Error(`the bench's worker sent an unknown message: ${JSON.stringify(data satisfies never)}`);
    }
  };
  worker.postMessage(setup);
}

function end(state: "ready" | "failed", text: string): void {
  worker?.terminate(); // which also ends its threads and frees its memory
  worker = undefined;
  run.disabled = false;
  swapFocus(cancel, run);
  running.hidden = true;
  status.dataset.state = state;
  status.textContent = text;
  announce(text);
}

function row(name: string, cells: string[]): HTMLTableRowElement {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = name;
  tr.append(th, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return tr;
}

/** A number with three significant digits. */
const number = (x: number) => x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0);

function speedRow({ name, ms, n_tokens, n_bytes, sweep_bytes_per_ms }: Speed): HTMLTableRowElement {
  const tokens = n_tokens ? number((1000 * n_tokens) / ms) : "";
  const gb = n_bytes ? number(n_bytes / ms / 1e6) : "";
  const share = n_bytes && sweep_bytes_per_ms ? `${((100 * n_bytes) / ms / sweep_bytes_per_ms).toFixed(0)} %` : "";
  return row(name, [number(ms), tokens, gb, share]);
}

function showProfiles(all: Profile[]): void {
  const head = row("", []);
  for (const { name } of all)
    head.append(Object.assign(document.createElement("th"), { textContent: name, scope: "col" }));
  profilesHead.replaceChildren(head);
  const totalMs = ({ parts }: Profile) => Object.values(parts).reduce((sum, ms) => sum + ms, 0);
  const cell = (profile: Profile, part: string) => {
    const ms = profile.parts[part] ?? 0;
    return `${number(ms)} (${((100 * ms) / totalMs(profile)).toFixed(0)} %)`;
  };
  const names = Object.keys(all[0]?.parts ?? {});
  const rows = names.map((part) =>
    row(
      part,
      all.map((profile) => cell(profile, part)),
    ),
  );
  profiles.replaceChildren(
    ...rows,
    row(
      "in all",
      all.map((profile) => number(totalMs(profile))),
    ),
  );
}

/** Wires the bench. */
export function startKernelBench(): void {
  for (const select of [dtype, threads]) {
    const value = asked.get(select.name);
    if (value === null) continue;
    if ([...select.options].some((option) => option.value === value)) select.value = value;
    else note(`The link asks for ${select.name} ${value}, which this page does not have; the usual setting is used.`);
  }
  if (!crossOriginIsolated) {
    threads.value = "1";
    threads.disabled = true;
  }
  byId("bench-threads-hint", HTMLParagraphElement).textContent = crossOriginIsolated
    ? `This machine runs ${navigator.hardwareConcurrency} threads at once.`
    : "One thread: more need a page that is cross-origin isolated, which this one is not.";

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  cancel.addEventListener("click", () => end("ready", "Stopped."));
}
