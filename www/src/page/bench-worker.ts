/** Measures the CPU kernels, away from the page so that it stays alive. Cancelled by being terminated. */

import { Kernels, OPS } from "../engine/kernels.js";

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
}

/** A measurement: of a sweep, of a prompt, or of one token. */
export interface Speed {
  name: string;
  ms: number;
  n_tokens: number;
  /** What it reads, where it is memory that limits it. */
  n_bytes: number | null;
  /** What a sweep did meanwhile, on one thread, where that is a measure. */
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

const scope = globalThis as unknown as { onmessage: (event: MessageEvent<Setup>) => void; postMessage(message: FromBench): void };
const post = (message: FromBench) => scope.postMessage(message);

scope.onmessage = ({ data }) => {
  measure(data).catch((error: unknown) => post({ kind: "failed", message: error instanceof Error ? error.message : String(error) }));
};

const PROMPTS = [32, 128, 512];
const PASTS = [32, 512];
/** rows of `Kernels.forward` */
const [NONE, LAST] = [0, 1];

async function measure(setup: Setup): Promise<void> {
  let n_done = 0;
  const n_steps = 2 + PROMPTS.length + 2 * PASTS.length + 1;
  const step = (text: string) => post({ kind: "step", n_done: n_done++, n_steps, text });

  step("Making weights up");
  const kernels = await Kernels.start(new URL("./", import.meta.url), new AbortController().signal, () => true);
  const { vocab_size, n_positions, n_embd, n_layer, n_head, dtype } = setup;
  const [gelu_new, epsilon, flags] = [0, 1e-5, 1 | 4]; // scaled attention, tied embeddings
  const dims = Float64Array.of(vocab_size, n_positions, n_embd, n_layer, n_head, 4 * n_embd, gelu_new, epsilon, flags);
  const image_bytes = kernels.create(dims, DTYPES.indexOf(dtype));
  if (image_bytes === 0) throw new Error("there is not enough memory for these weights");
  kernels.fill(1);
  const remark = await kernels.useThreads(setup.threads);
  post({ kind: "ready", n_bytes: image_bytes, threads: kernels.threads, remark });

  const ids = Uint32Array.from({ length: Math.max(...PROMPTS, ...PASTS) }, (_, i) => (i * 7919) % vocab_size);
  const cache = kernels.cache_new();
  const forward = (n_past: number, n_ids: number, rows: number) => {
    kernels.cache_truncate(cache, n_past);
    if (!kernels.forward(cache, ids.subarray(0, n_ids), rows, false)) throw new Error("there is not enough memory for a pass");
    kernels.advance(Infinity);
  };
  const prefill = (n: number) => forward(0, n, LAST);
  const decode = (n_past: number) => forward(n_past, 1, LAST);
  const fillCache = (n: number) => forward(0, n, NONE);

  step("Reading the weights");
  const sweep = () => void kernels.sweep();
  const [sweep_ms] = timed(sweep) as [number];
  post({ kind: "speed", speed: { name: "read sweep", ms: sweep_ms, n_tokens: 0, n_bytes: image_bytes, sweep_bytes_per_ms: null } });
  for (const n of PROMPTS) {
    step(`Reading a prompt of ${n} tokens`);
    const [ms] = timed(() => prefill(n)) as [number];
    post({ kind: "speed", speed: { name: `prompt of ${n}`, ms, n_tokens: n, n_bytes: null, sweep_bytes_per_ms: null } });
  }
  // of the positions, a token reads a single row
  const weight_bytes = image_bytes - 4 * n_positions * n_embd;
  for (const n of PASTS) {
    step(`Writing after ${n} tokens`);
    fillCache(n);
    const n_bytes = weight_bytes + (n + 1) * cacheBytes(setup);
    const [ms, sweep_ms] = timed(() => decode(n), sweep) as [number, number];
    post({ kind: "speed", speed: { name: `token after ${n}`, ms, n_tokens: 1, n_bytes, sweep_bytes_per_ms: image_bytes / sweep_ms } });
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

/** How often and for how long, ms, something is measured: clocks are coarse, to a tenth of a millisecond. */
const [N_SAMPLES, SAMPLE_MS] = [5, 100];

/** Milliseconds that each of `runs` takes: they take turns, and the best sample counts, as that was disturbed least. */
function timed(...runs: (() => void)[]): number[] {
  const best_ms = runs.map(() => Infinity);
  for (const run of runs) run(); // warms up
  for (let i = 0; i < N_SAMPLES * runs.length; i++) {
    const which = i % runs.length;
    const start_ms = performance.now();
    let [n, elapsed_ms] = [0, 0];
    while (elapsed_ms < SAMPLE_MS) {
      runs[which]!();
      n += 1;
      elapsed_ms = performance.now() - start_ms;
    }
    best_ms[which] = Math.min(best_ms[which]!, elapsed_ms / n);
  }
  return best_ms;
}

/** The parts of `run`, and what is none of them as "rest". */
function profiled(kernels: Kernels, name: string, run: () => void): Profile {
  let [n, elapsed_ms] = [0, 0];
  const op_ms = kernels.profile(() => {
    const start_ms = performance.now();
    while (elapsed_ms < N_SAMPLES * SAMPLE_MS) {
      run();
      n += 1;
      elapsed_ms = performance.now() - start_ms;
    }
  });
  const parts = Object.fromEntries(OPS.map((op, i) => [op, op_ms[i]! / n]).filter(([op]) => op !== "embed"));
  const named_ms = Object.values(parts).reduce((sum: number, ms) => sum + (ms as number), 0);
  return { name, parts: { ...parts, rest: Math.max(0, elapsed_ms / n - named_ms) } as Record<string, number> };
}
