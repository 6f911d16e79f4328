/** What was measured, as tables for people and as JSON for programs. */

import { bytesText, durationText, figureText } from "../../elements/figures.js";
import { configurationText, type Measured, type Skipped } from "./measure.js";

/** All that a measurement tells. */
export interface Report {
  format: "gpt2-web-speed";
  version: 1;
  package_version: string;
  measured_at: string;
  model: string;
  browser: string;
  hardware: { logical_processors: number; memory_gb: number | null; gpu: string | null; isolated: boolean };
  /** Bytes per second that one thread reads. */
  sweep_bytes_per_second: number | null;
  results: Measured[];
  skipped: Skipped[];
}

declare const PACKAGE_VERSION: string;

/** The browser by its name, where it tells that; else all that it says of itself. */
function browserText(): string {
  const { userAgentData } = navigator as {
    userAgentData?: { brands: { brand: string; version: string }[]; platform: string };
  };
  const brands = userAgentData?.brands.filter(({ brand }) => !/not.?a.?brand/i.test(brand));
  if (!userAgentData || !brands?.length) return navigator.userAgent;
  return `${brands.map(({ brand, version }) => `${brand} ${version}`).join(", ")} on ${userAgentData.platform}`;
}

/** A report with nothing measured yet. */
export function emptyReport(model: string): Report {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return {
    format: "gpt2-web-speed",
    version: 1,
    package_version: PACKAGE_VERSION,
    measured_at: new Date().toISOString(),
    model,
    browser: browserText(),
    hardware: {
      logical_processors: navigator.hardwareConcurrency,
      memory_gb: deviceMemory ?? null,
      gpu: null,
      isolated: crossOriginIsolated,
    },
    sweep_bytes_per_second: null,
    results: [],
    skipped: [],
  };
}

/** Which share of the sweep's speed a token reads the weights at; null where memory is not what limits it. */
export function shareOfSweep(result: Measured, sweep: number | null): number | null {
  const speed = result.decode[0]?.tokens_per_second;
  if (result.device !== "wasm" || sweep === null || speed === undefined) return null;
  return (speed * result.weight_bytes) / sweep;
}

/** The head of the table. */
export const COLUMNS = [
  "",
  "Load",
  "First token",
  "Reads, tokens/s",
  "Writes, tokens/s",
  "Token p50 / p95 / p99",
  "Weights",
  "Of the sweep",
  "Off fp32",
] as const;

/** From the shortest to the longest context. */
const range = (speeds: Measured["decode"]) =>
  [...new Set([speeds[0], speeds.at(-1)])].map((it) => figureText(it?.tokens_per_second ?? Number.NaN)).join(" … ");

/** A row of the table, cell by cell. */
export function cellsOf(result: Measured, sweep: number | null): string[] {
  const share = shareOfSweep(result, sweep);
  const { p50, p95, p99 } = result.token_ms;
  return [
    configurationText(result) + (result.threads > 1 ? `, ${result.threads} threads` : ""),
    durationText(result.load_ms),
    result.first_token_ms < 10 ? `${result.first_token_ms.toFixed(1)} ms` : durationText(result.first_token_ms),
    range(result.prefill),
    range(result.decode),
    `${[p50, p95, p99].map(figureText).join(" / ")} ms`,
    bytesText(result.weight_bytes),
    share === null ? "–" : `${(100 * share).toFixed(0)}%`,
    result.difference === null ? "–" : result.difference.toPrecision(1),
  ];
}

/** The lengths between which speeds were measured. */
export function lengthsText({ results }: Report): string {
  const lengths = results[0]?.decode.map(({ n_tokens }) => n_tokens) ?? [];
  return `${lengths[0]} … ${lengths.at(-1)}`;
}

/** The report as Markdown. */
export function markdownOf(report: Report): string {
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const { hardware, sweep_bytes_per_second: sweep } = report;
  const machine = [
    `${hardware.logical_processors} logical processors`,
    hardware.memory_gb === null ? [] : `${hardware.memory_gb} GB or more of memory`,
    hardware.gpu ?? [],
    sweep === null ? [] : `one thread reads ${bytesText(sweep)}/s`,
    hardware.isolated ? [] : "not cross-origin isolated, so one thread",
  ].flat();
  return [
    `**${report.model}**, gpt2-web ${report.package_version}, ${report.browser}, ${machine.join(", ")}.`,
    `Speeds after ${lengthsText(report)} tokens, medians of up to three samples; ${report.measured_at.slice(0, 10)}.`,
    "",
    row(COLUMNS),
    row(COLUMNS.map((_, i) => (i === 0 ? "---" : "---:"))),
    ...report.results.map((result) => row(cellsOf(result, sweep))),
    ...report.skipped.map((one) => row([configurationText(one), one.reason, ...COLUMNS.slice(2).map(() => "")])),
    "",
  ].join("\n");
}
