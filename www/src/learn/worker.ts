/** The worker that learns: it has the module, the model's weights and what learns, and makes step after step. */

import init, { Finetune, layoutVersion, makeRoom, pack, plan, Weights } from "../../wasm/gpt2_learn.js";
import { toWire } from "../api/errors.js";
import type { WireWeights } from "../api/messages.js";
import { breathe } from "../engine/breathe.js";
import { fetchModule } from "../engine/fetch-module.js";
import { hashHere } from "../files/hash.js";
import { MANIFEST, MANIFEST_FORMAT, type ManifestJson } from "../files/manifest.js";
import { release } from "../files/release.js";
import type {
  FromLearner,
  LearnedFiles,
  PackedDtype,
  Plan,
  RunState,
  StepReport,
  Task,
  ToLearner,
} from "./messages.js";
import { methodOf } from "./messages.js";

const scope = globalThis as unknown as {
  postMessage(message: FromLearner, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent<ToLearner>) => void): void;
};

/** Between two times that what was learnt is sent, if it is not the best so far; an adapter is always sent. */
const TELL_MS = 1_000;

/** Bytes of packed weights of which each has its own SHA-256. */
const PIECE_BYTES = 4 << 20;

/** The weights as far as they have come. */
let weights: Weights | undefined;

function post(message: FromLearner): void {
  const transfer: Transferable[] = [];
  const learnt = message.kind === "step" ? message.learnt : null;
  const files = "files" in message ? message.files : learnt?.files;
  for (const bytes of files?.values() ?? []) transfer.push(bytes.buffer);
  if (learnt) transfer.push(learnt.state.numbers.buffer);
  scope.postMessage(message, transfer);
}

/** Messages are handled one after the other. After an error, nothing more is. */
let handled: Promise<void> = Promise.resolve();
scope.addEventListener("message", ({ data }) => {
  handled = handled.then(() => handle(data));
  handled.catch((error: unknown) => post({ kind: "error", error: toWire(error) }));
});

async function handle(message: ToLearner): Promise<void> {
  switch (message.kind) {
    case "begin":
      await init({ module_or_path: fetchModule("gpt2_learn_bg.wasm", message.module, null) });
      break;
    case "plan":
      post({ kind: "plan", plan: planOf(message.weights, message.task) });
      break;
    case "weights": {
      const { config, is_untied, dtype, bytes } = message.weights;
      makeRoom(message.memory_bytes);
      weights = new Weights(config, is_untied, dtype, bytes);
      break;
    }
    case "piece":
      weights?.push(message.bytes);
      release(message.bytes);
      break;
    case "learn":
      await learn(message.task, message.state);
      break;
    case "merge": {
      const { adapter, dtype } = message;
      const files = filesOf(taken().merged(adapter.config, adapter.weights, 1));
      post({ kind: "merged", files: dtype ? await packed(files, dtype) : files });
      break;
    }
    case "pack":
      post({ kind: "merged", files: await packed(message.checkpoint, message.dtype) });
      break;
    default:
      throw new Error(`unknown message of the page: ${JSON.stringify(message satisfies never)}`);
  }
}

function filesOf(pairs: unknown): LearnedFiles {
  return new Map(pairs as [string, Uint8Array<ArrayBuffer>][]);
}

/** A checkpoint as a folder of packed weights, such as `gpt2-web convert` writes. */
async function packed(checkpoint: LearnedFiles, dtype: PackedDtype): Promise<LearnedFiles> {
  const [config, weights] = [checkpoint.get("config.json"), checkpoint.get("model.safetensors")];
  if (!config || !weights) throw new Error("a checkpoint without its files");
  const [file, image] = pack(new TextDecoder().decode(config), weights, dtype) as [string, Uint8Array<ArrayBuffer>];
  const digest = async (bytes: Uint8Array) => {
    const hash = hashHere();
    await hash.update(bytes);
    return hash.digest();
  };
  const pieces: string[] = [];
  for (let at = 0; at < image.byteLength; at += PIECE_BYTES) {
    pieces.push(await digest(image.subarray(at, at + PIECE_BYTES)));
  }
  const manifest: ManifestJson = {
    format: MANIFEST_FORMAT,
    layout_version: layoutVersion(),
    dtype,
    file,
    bytes: image.byteLength,
    sha256: await digest(image),
    piece_bytes: PIECE_BYTES,
    piece_sha256: pieces,
    warnings: [],
  };
  const json = new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`);
  return new Map([
    ["config.json", config],
    [file, image],
    [MANIFEST, json],
  ]);
}

function planOf({ config, bytes }: WireWeights, { ids, lengths, settings }: Task): Plan {
  return plan(config, ids, lengths, settings, bytes) as Plan;
}

/** The weights, which whoever takes them frees. */
function taken(): Weights {
  if (!weights) throw new Error("the weights have not come");
  const all = weights;
  weights = undefined;
  return all;
}

async function learn({ ids, lengths, settings, base }: Task, state: RunState | null): Promise<void> {
  const run = new Finetune(taken(), ids, lengths, settings);
  const files = () => filesOf(run.files(base));
  if (state) run.restore(state.progress, state.numbers);
  post({ kind: "started", steps: run.nSteps, eval_loss: state ? null : (run.evalLoss() ?? null), files: files() });
  const learnt = () => ({
    files: files(),
    state: { progress: run.progress() as RunState["progress"], numbers: run.numbers() as Float32Array<ArrayBuffer> },
  });
  const isSmall = methodOf(settings) === "lora";
  let toldMs = Number.NEGATIVE_INFINITY;
  for (let isLast = false; !isLast; ) {
    const startMs = performance.now();
    const report = run.step() as StepReport;
    const endMs = performance.now();
    isLast = report.is_last;
    const isDue = isSmall || report.is_best || isLast || endMs - toldMs > TELL_MS;
    post({ kind: "step", report, ms: endMs - startMs, learnt: isDue ? learnt() : null });
    if (isDue) toldMs = performance.now();
    await breathe(); // some browsers deliver nothing before
  }
  run.free();
}
