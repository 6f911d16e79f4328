/** The worker that learns: it has the module, the model's weights and the adapter, and makes step after step. */

import init, { Finetune, makeRoom, plan, Weights } from "../../wasm/gpt2_learn.js";
import { toWire } from "../api/errors.js";
import type { WireWeights } from "../api/messages.js";
import { breathe } from "../engine/breathe.js";
import { fetchModule } from "../engine/fetch-module.js";
import { release } from "../files/release.js";
import type { AdapterParts, FromLearner, Plan, RunState, StepReport, Task, ToLearner } from "./messages.js";

const scope = globalThis as unknown as {
  postMessage(message: FromLearner, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent<ToLearner>) => void): void;
};

/** The weights as far as they have come. */
let weights: Weights | undefined;

function post(message: FromLearner): void {
  const transfer: Transferable[] = [];
  if ("files" in message) for (const bytes of message.files.values()) transfer.push(bytes.buffer);
  if (message.kind === "step") transfer.push(message.state.numbers.buffer);
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
      const { config, adapter, weight } = message;
      const merged = taken().merged(config, adapter.config, adapter.weights, weight);
      post({ kind: "merged", files: new Map(merged as [string, Uint8Array<ArrayBuffer>][]) });
      break;
    }
    default:
      throw new Error(`unknown message of the page: ${JSON.stringify(message satisfies never)}`);
  }
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
  const files = (): AdapterParts => new Map(run.files(base) as [string, Uint8Array<ArrayBuffer>][]);
  if (state) run.restore(state.progress, state.numbers);
  post({ kind: "started", steps: run.nSteps, eval_loss: state ? null : (run.evalLoss() ?? null), files: files() });
  for (let isLast = false; !isLast; ) {
    const startMs = performance.now();
    const report = run.step() as StepReport;
    const ms = performance.now() - startMs;
    const numbers = run.numbers() as Float32Array<ArrayBuffer>;
    const progress = run.progress() as RunState["progress"];
    post({ kind: "step", report, ms, files: files(), state: { progress, numbers } });
    isLast = report.is_last;
    await breathe(); // some browsers deliver nothing before
  }
  run.free();
}
