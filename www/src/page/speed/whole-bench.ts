/** The bench of the model in use: devices and formats, through the package itself. */

import { isAbort } from "../../api/errors.js";
import type { ModelSource } from "../../api/index.js";
import { bytesText } from "../../elements/figures.js";
import { retry, showError } from "../alert.js";
import { copy } from "../clipboard.js";
import { announce, byId, swapFocus } from "../dom.js";
import { currentSource, nameOf, useEngine } from "../engine.js";
import { SpeedChart } from "./chart.js";
import { type Configuration, configurationText, Measurement } from "./measure.js";
import { COLUMNS, cellsOf, emptyReport, lengthsText, markdownOf, type Report } from "./report.js";
import { sweepBytesPerSecond } from "./sweep.js";

const form = byId("measure-form", HTMLFormElement);
const runButton = byId("measure", HTMLButtonElement);
const cancelButton = byId("measure-cancel", HTMLButtonElement);
const running = byId("measure-running", HTMLDivElement);
const progress = byId("measure-progress", HTMLProgressElement);
const progressText = byId("measure-text", HTMLParagraphElement);
const status = byId("measure-status", HTMLParagraphElement);
const results = byId("measure-results", HTMLElement);
const caption = byId("measure-caption", HTMLParagraphElement);
const gpuRemark = byId("measure-gpu", HTMLParagraphElement);
const table = byId("measure-table", HTMLTableElement);

const boxes = () => [...form.querySelectorAll<HTMLInputElement>('input[name="configuration"]')];
const writing = new SpeedChart(byId("chart-decode", HTMLDivElement), ({ decode }) => decode);
const reading = new SpeedChart(byId("chart-prefill", HTMLDivElement), ({ prefill }) => prefill);

let controller = new AbortController();
let report: Report | null = null;
/** Settles, never rejects, when nothing is measured any more. */
let measuring: Promise<void> = Promise.resolve();

function configurations(): Configuration[] {
  return boxes()
    .filter(({ checked, disabled }) => checked && !disabled)
    .map(({ value }) => {
      const [device, dtype] = value.split(" ");
      return { device, dtype } as Configuration;
    });
}

function row(cells: readonly string[], kind: "td" | "th" = "td"): HTMLTableRowElement {
  const tr = document.createElement("tr");
  for (const [i, text] of cells.entries()) {
    const cell = document.createElement(i === 0 && text !== "" ? "th" : text === "" ? "td" : kind);
    cell.textContent = text;
    if (cell.localName === "th") cell.scope = kind === "th" ? "col" : "row";
    tr.append(cell);
  }
  return tr;
}

function show(): void {
  if (!report) return;
  results.hidden = false;
  const sweep = report.sweep_bytes_per_second;
  table.tHead?.replaceChildren(row(COLUMNS, "th"));
  const skipped = report.skipped.map((one) => {
    const tr = row([configurationText(one)]);
    const cell = tr.insertCell();
    cell.colSpan = COLUMNS.length - 1;
    cell.className = "reason";
    cell.textContent = one.reason;
    return tr;
  });
  table.tBodies[0]?.replaceChildren(...report.results.map((one) => row(cellsOf(one, sweep))), ...skipped);
  caption.textContent = [
    report.model,
    `after ${lengthsText(report)} tokens`,
    sweep === null ? [] : `one thread reads ${bytesText(sweep)}/s`,
    report.browser,
    `${report.hardware.logical_processors} processors`,
    report.hardware.gpu ?? [],
  ]
    .flat()
    .join(" · ");
  const cpu = report.results
    .filter(({ device }) => device === "wasm")
    .sort((a, b) => a.weight_bytes - b.weight_bytes)[0];
  const limit =
    cpu && sweep !== null ? { name: `read sweep, ${cpu.dtype}`, tokens_per_second: sweep / cpu.weight_bytes } : null;
  writing.show(report.results, limit);
  reading.show(report.results, null);
}

async function measure(source: ModelSource, asked: Configuration[], signal: AbortSignal): Promise<void> {
  const found = emptyReport(nameOf(source));
  report = found;
  const step = (text: string, nDone: number, nSteps: number): void => {
    progressText.textContent = text;
    progress.max = nSteps;
    progress.value = nDone;
  };
  const measurement = new Measurement(source, signal, {
    step,
    measured(result) {
      found.results.push(result);
      if (result.device === "webgpu") found.hardware.gpu = result.adapter;
      show();
    },
    skipped(one) {
      found.skipped.push(one);
      show();
    },
  });
  await measurement.run(asked);
  const smallest = Math.min(...found.results.filter(({ device }) => device === "wasm").map((one) => one.weight_bytes));
  if (Number.isFinite(smallest)) {
    progressText.textContent = "Reading memory";
    found.sweep_bytes_per_second = await sweepBytesPerSecond(smallest, signal);
    show();
  }
}

function begin(): void {
  const source = currentSource();
  const asked = configurations();
  if (source === null || asked.length === 0) {
    status.textContent = source === null ? "There is no model yet." : "Choose at least one.";
    return;
  }
  controller = new AbortController();
  const { signal } = controller;
  results.hidden = true;
  running.hidden = false;
  swapFocus(runButton, cancelButton);
  runButton.disabled = true;
  progress.removeAttribute("value");
  status.dataset.state = "measuring";
  status.textContent = "Measuring…";
  announce("Measuring.");
  const end = (state: "ready" | "failed", text: string): void => {
    runButton.disabled = false;
    swapFocus(cancelButton, runButton);
    running.hidden = true;
    status.dataset.state = state;
    status.textContent = text;
    announce(text);
  };
  measuring = measure(source, asked, signal).then(
    () => end("ready", "Done."),
    (error: unknown) => {
      end(isAbort(error) ? "ready" : "failed", isAbort(error) ? "Stopped." : "Broken off: see the message above.");
      if (!isAbort(error)) showError(error, retry(begin));
    },
  );
}

/** What runs on the GPU is offered where there is one; a software adapter is right and says nothing of speed. */
async function offerGpu(): Promise<void> {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const info = adapter?.info as (GPUAdapterInfo & { isFallbackAdapter?: boolean }) | undefined;
  const isSoftware =
    info?.isFallbackAdapter || /swiftshader|llvmpipe|software/i.test(`${info?.architecture} ${info?.description}`);
  for (const box of boxes()) {
    if (!box.value.startsWith("webgpu")) continue;
    box.disabled = !adapter;
    box.checked = Boolean(adapter) && !isSoftware && box.defaultChecked;
  }
  if (!adapter) gpuRemark.textContent = "This browser gives no GPU to web pages.";
  else if (isSoftware) gpuRemark.textContent = "The GPU of this browser is a software adapter: right, and slow.";
}

/** Wires the bench. */
export function startWholeBench(): void {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  cancelButton.addEventListener("click", () =>
    controller.abort(new DOMException("measuring was stopped", "AbortError")),
  );
  const copyMarkdown = byId("copy-markdown", HTMLButtonElement);
  copyMarkdown.addEventListener("click", () => report && void copy(markdownOf(report), copyMarkdown));
  const copyJson = byId("copy-json", HTMLButtonElement);
  copyJson.addEventListener("click", () => report && void copy(JSON.stringify(report, null, 1), copyJson));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  const modelName = byId("measure-model", HTMLElement);
  useEngine({
    attach: () => {
      const source = currentSource();
      modelName.textContent = source === null ? "no model" : nameOf(source);
      runButton.disabled = false;
    },
    detach: async () => {
      controller.abort(new DOMException("another model is loaded", "AbortError"));
      await measuring;
      runButton.disabled = true;
    },
  });
  void offerGpu();
}
