/** The worker of the CPU bench, so that the page can be used meanwhile. The page terminates it to cancel. */

import { messageOf } from "../../api/errors.js";
import type { WorkerFile } from "../../api/messages.js";
import { Kernels } from "../../engine/kernels.js";

export const DTYPES = ["fp32", "fp16", "q8", "q4"] as const;
export type BenchDtype = (typeof DTYPES)[number];

/** What is measured. */
export interface Setup {
  vocab_size: number;
  n_positions: number;
  n_embd: number;
  n_layer: number;
  n_head: number;
  dtype: BenchDtype;
  threads: number | "auto";
  /** Only reads the weights. */
  sweep_only?: boolean;
  /** Where the kernels are. */
  files: Record<WorkerFile, string>;
}

/** A measurement: of a sweep, of a prompt, or of one token. */
export interface Speed {
  name: string;
  ms: number;
  n_tokens: number;
  /** Bytes that it reads, if the memory's speed is what limits it. */
  n_bytes: number | null;
  /** Speed of a sweep by one thread, measured in turns with it. */
  sweep_bytes_per_ms: number | null;
}

/** Milliseconds of each part of one pass, or of all passes of one prompt. */
export interface Profile {
  name: string;
  parts: Record<string, number>;
}

/** The only message to it is a {@link Setup}. */
export type FromBench =
  | { kind: "step"; n_done: number; n_steps: number; text: string }
  | { kind: "ready"; n_bytes: number; threads: number; remark: string | null }
  | { kind: "speed"; speed: Speed }
  | { kind: "profile"; profile: Profile }
  | { kind: "done" }
  | { kind: "failed"; message: string };

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<Setup>) => void;
  postMessage(message: FromBench): void;
};
const post = (message: FromBench) => scope.postMessage(message);

scope.onmessage = ({ data }) => {
  measure(data).catch((error: unknown) => post({ kind: "failed", message: messageOf(error) }));
};

const PROMPTS = [32, 128, 512];
const PASTS = [32, 512];
const TEXTS = [2, 4, 8];
/** Values of `rows` in `Kernels.forward`. */
const [NONE, LAST] = [0, 1];

async function measure(setup: Setup): Promise<void> {
  let nDone = 0;
  const nSteps = 2 + PROMPTS.length + 2 * PASTS.length + TEXTS.length + 1;
  const step = (text: string) => post({ kind: "step", n_done: nDone++, n_steps: nSteps, text });

  step("Making weights up");
  const kernels = await Kernels.start(setup.files, new AbortController().signal, () => true);
  const { vocab_size, n_positions, n_embd, n_layer, n_head, dtype } = setup;
  const [geluNew, epsilon, flags] = [0, 1e-5, 1 | 4]; // scaled attention, tied embeddings
  const dims = Float64Array.of(vocab_size, n_positions, n_embd, n_layer, n_head, 4 * n_embd, geluNew, epsilon, flags);
  const imageBytes = kernels.create(dims, DTYPES.indexOf(dtype));
  if (imageBytes === 0) throw new Error("there is not enough memory for these weights");
  kernels.fill(1);
  kernels.chooseProducts();
  const remark = await kernels.useThreads(setup.threads);
  post({ kind: "ready", n_bytes: imageBytes, threads: kernels.threads, remark });

  const ids = Uint32Array.from({ length: Math.max(...PROMPTS, ...PASTS) }, (_, i) => (i * 7919) % vocab_size);
  const cache = kernels.cacheNew();
  const forward = (nPast: number, nIds: number, rows: number) => {
    kernels.cacheTruncate(cache, nPast);
    if (!kernels.forward(cache, ids.subarray(0, nIds), rows, false))
      throw new Error("there is not enough memory for a pass");
    kernels.advance(Infinity);
  };
  const prefill = (n: number) => forward(0, n, LAST);
  const decode = (nPast: number) => forward(nPast, 1, LAST);
  const fillCache = (n: number) => forward(0, n, NONE);

  step("Reading the weights");
  const sweep = () => void kernels.sweep();
  const [sweepMs] = timed(sweep) as [number];
  post({
    kind: "speed",
    speed: { name: "read sweep", ms: sweepMs, n_tokens: 0, n_bytes: imageBytes, sweep_bytes_per_ms: null },
  });
  if (setup.sweep_only) return;
  for (const n of PROMPTS) {
    step(`Reading a prompt of ${n} tokens`);
    const [ms] = timed(() => prefill(n)) as [number];
    post({
      kind: "speed",
      speed: { name: `prompt of ${n}`, ms, n_tokens: n, n_bytes: null, sweep_bytes_per_ms: null },
    });
  }
  // A token reads a single row of the position embeddings.
  const weightBytes = imageBytes - 4 * n_positions * n_embd;
  for (const n of PASTS) {
    step(`Writing after ${n} tokens`);
    fillCache(n);
    const nBytes = weightBytes + (n + 1) * cacheBytes(setup);
    const [ms, sweepMs] = timed(() => decode(n), sweep) as [number, number];
    post({
      kind: "speed",
      speed: { name: `token after ${n}`, ms, n_tokens: 1, n_bytes: nBytes, sweep_bytes_per_ms: imageBytes / sweepMs },
    });
  }
  for (const n of TEXTS) {
    step(`Writing ${n} texts at once`);
    const caches = Array.from({ length: n }, () => kernels.cacheNew());
    const plan = Uint32Array.of(...caches.flatMap((one) => [one, 1, LAST]), ...ids.subarray(0, n));
    for (const one of caches) {
      if (!kernels.forward(one, ids.subarray(0, 32), NONE, false)) throw new Error("there is not enough memory");
      kernels.advance(Infinity);
    }
    const [ms] = timed(() => {
      for (const one of caches) kernels.cacheTruncate(one, 32);
      if (!kernels.forwardBatch(plan, n, false)) throw new Error("there is not enough memory for a pass");
      kernels.advance(Infinity);
    }) as [number];
    const speed = { name: `${n} texts after 32`, ms, n_tokens: n, n_bytes: null, sweep_bytes_per_ms: null };
    post({ kind: "speed", speed });
    for (const one of caches) kernels.cacheFree(one);
  }
  for (const n of PASTS) {
    step(`Writing after ${n} tokens, part by part`);
    fillCache(n);
    post({ kind: "profile", profile: profiled(kernels, `token after ${n}`, () => decode(n)) });
  }
  step("Reading a prompt, part by part");
  post({ kind: "profile", profile: profiled(kernels, "prompt of 128", () => prefill(128)) });
  post({ kind: "done" });
}

/** Bytes of a token in the cache: i8 with a scale per head where the weights are integers, f32 otherwise. */
function cacheBytes({ n_layer, n_head, n_embd, dtype }: Setup): number {
  const d = Math.ceil(n_embd / n_head / 16) * 16;
  return n_layer * n_head * (dtype === "q8" || dtype === "q4" ? 2 * d + 8 : 8 * d);
}

/** How many samples are taken, and how long each is: clocks are only exact to a tenth of a millisecond. */
const [N_SAMPLES, SAMPLE_MS] = [5, 100];

/** Milliseconds that each of `runs` takes: they take turns, and the best sample counts, as that was disturbed least. */
function timed(...runs: (() => void)[]): number[] {
  const timers = runs.map((run) => ({ run, bestMs: Infinity }));
  for (const { run } of timers) run(); // warms up
  for (let i = 0; i < N_SAMPLES; i++) {
    for (const timer of timers) {
      const { n, elapsedMs } = repeat(timer.run, SAMPLE_MS);
      timer.bestMs = Math.min(timer.bestMs, elapsedMs / n);
    }
  }
  return timers.map(({ bestMs }) => bestMs);
}

/** Runs `run` until so much time has passed. Returns how often that was, and the time it took. */
function repeat(run: () => void, leastMs: number): { n: number; elapsedMs: number } {
  const startMs = performance.now();
  let [n, elapsedMs] = [0, 0];
  while (elapsedMs < leastMs) {
    run();
    n += 1;
    elapsedMs = performance.now() - startMs;
  }
  return { n, elapsedMs };
}

/** Milliseconds of the parts of `run`; the time outside of them is the part "rest". */
function profiled(kernels: Kernels, name: string, run: () => void): Profile {
  let [n, elapsedMs] = [0, 0];
  const opMs = kernels.profile(() => {
    ({ n, elapsedMs } = repeat(run, N_SAMPLES * SAMPLE_MS));
  });
  const parts: Record<string, number> = {};
  let namedMs = 0;
  for (const [op, ms] of Object.entries(opMs)) {
    if (op === "embed") continue; // too little to measure
    parts[op] = ms / n;
    namedMs += ms / n;
  }
  parts.rest = Math.max(0, elapsedMs / n - namedMs);
  return { name, parts };
}
