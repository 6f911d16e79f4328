/** How fast one thread of this machine reads memory, which is what limits writing on the CPU. */

import { filesFor } from "../../api/worker-files.js";
import type { FromBench, Setup } from "./bench-worker.js";

/** Bytes per second of a sweep over about so many bytes; rejects with `AbortError` when the signal is aborted. */
export function sweepBytesPerSecond(nBytes: number, signal: AbortSignal): Promise<number> {
  const nEmbd = 256;
  const layerBytes = 12 * nEmbd * nEmbd;
  // Weights of about that size: what fits into the processor's caches is read faster than what does not.
  const nLayer = Math.max(1, Math.min(64, Math.round(nBytes / layerBytes) - 1));
  const vocabSize = Math.max(512, Math.round((nBytes - nLayer * layerBytes) / nEmbd));
  const setup: Setup = {
    ...{ vocab_size: vocabSize, n_positions: 64, n_embd: nEmbd, n_layer: nLayer, n_head: 4 },
    ...{ dtype: "q8", threads: 1, sweep_only: true, files: filesFor(undefined) },
  };
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./page-bench-worker.js", import.meta.url), { type: "module" });
    const end = (settle: () => void): void => {
      worker.terminate();
      signal.removeEventListener("abort", abort);
      settle();
    };
    const abort = (): void => end(() => reject(signal.reason));
    signal.addEventListener("abort", abort);
    worker.onerror = ({ message }) => end(() => reject(new Error(message || "the worker could not be started")));
    worker.onmessage = ({ data }: MessageEvent<FromBench>) => {
      if (data.kind === "failed") end(() => reject(new Error(data.message)));
      if (data.kind === "speed") end(() => resolve((1000 * (data.speed.n_bytes ?? 0)) / data.speed.ms));
    };
    worker.postMessage(setup);
  });
}
