/** Numbers as people read them. Used by the page and by the elements. */
import type { GeneratorInfo, ProgressEvent, PromptProgress } from "../api/index.js";

/** The page's language, in which numbers are written. */
const language = () => globalThis.document?.documentElement.lang || "en";

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** `548105171` → `548 MB`; decimal units, as download pages use them. */
export function bytesText(nBytes: number): string {
  let unit = 0;
  let value = nBytes;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit] ?? ""}`;
}

/** `124439808` → `124M`; as models are usually named by their size. */
export function parametersText(nParameters: number): string {
  if (nParameters >= 1e9) return `${(nParameters / 1e9).toFixed(1)}B`;
  if (nParameters >= 10e6) return `${(nParameters / 1e6).toFixed(0)}M`;
  if (nParameters >= 1e6) return `${(nParameters / 1e6).toFixed(1)}M`;
  return nParameters.toLocaleString(language());
}

/** A time left: `about 3 min left`, `12 s left`, or the empty string where it is not known. */
export function timeLeftText(etaMs: number | null | undefined): string {
  if (etaMs === null || etaMs === undefined || !Number.isFinite(etaMs) || etaMs <= 0) return "";
  const seconds = Math.ceil(etaMs / 1000);
  if (seconds < 60) return `${seconds} s left`;
  if (seconds < 3600) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

/** How far a prompt has been read: `reading, 512 of 1,000 tokens`. */
export function promptText({ loaded, total }: PromptProgress): string {
  return `reading, ${loaded.toLocaleString(language())} of ${countText(total, "token")}`;
}

/** A short time: `84 ms`, `1.3 s`. */
export function durationText(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** How fast a model writes: `48.3 tokens/s`, `3354 tokens/s`. */
export function rateText(tokensPerSecond: number): string {
  return `${tokensPerSecond.toFixed(tokensPerSecond < 99.95 ? 1 : 0)} tokens/s`;
}

/** A count with its noun: `1 token`, `1,024 tokens`. */
export function countText(n: number, noun: string): string {
  return `${n.toLocaleString(language())} ${noun}${n === 1 ? "" : "s"}`;
}

/** A measured number with as many digits as say something: `0.42`, `7.3`, `58`, `1240`. */
export function figureText(x: number): string {
  return x.toFixed(x < 1 ? 2 : x < 20 ? 1 : 0);
}

/** A probability: `12%`, `0.4%`, `< 0.1%`. */
export function shareText(probability: number): string {
  const maximumFractionDigits = probability < 0.1 ? 1 : 0;
  const format = new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits });
  return probability < 0.001 ? `< ${format.format(0.001)}` : format.format(probability);
}

/** What a model runs on: `GPU (Apple M2)`, `CPU, 4 threads`. */
export function deviceText({ device, adapter, threads }: GeneratorInfo): string {
  if (device === "webgpu") return adapter === null ? "GPU" : `GPU (${adapter})`;
  return threads > 1 ? `CPU, ${threads} threads` : "CPU";
}

/** What each phase of a load is called. */
export const PHASES: Readonly<Record<ProgressEvent["phase"], string>> = {
  wait: "Waiting for another tab that loads it",
  download: "Downloading",
  verify: "Checking the download",
  convert: "Preparing the weights",
  upload: "Copying to the GPU",
  compile: "Compiling the programs", // WebAssembly, and the GPU’s where it is to run there
  "self-test": "Testing against known answers",
  keep: "Keeping the weights for the next visit",
};

/** One line about a load under way: phase, bytes, percent, time left. */
export function progressText(event: ProgressEvent): string {
  const parts = [PHASES[event.phase]];
  if (event.progress === null) {
    if (event.loaded > 0) parts.push(bytesText(event.loaded)); // how many there will be is not known
  } else {
    if (event.total > 0) parts.push(`${bytesText(event.loaded)} of ${bytesText(event.total)}`);
    parts.push(`${Math.floor(event.progress)} %`);
  }
  const left = timeLeftText(event.eta_ms);
  if (left !== "") parts.push(left);
  return parts.join(" · ");
}
