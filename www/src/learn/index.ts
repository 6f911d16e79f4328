/**
 * Learning a way of writing, on the visitor's own machine: a LoRA adapter beside a generator's model.
 *
 * ```ts
 * const run = finetune(generator, myPages);
 * for await (const { step, loss, eval_loss } of run) plot(step, loss, eval_loss);
 * const adapter = await run.adapter;
 * await generator.setAdapter(adapter.name);
 * ```
 */

import { invalidOption, makeError } from "../api/errors.js";
import type { Generator } from "../api/generator.js";
import { isSignal } from "../api/validate.js";
import { MAX_MEMORY_BYTES } from "./adapter.js";
import { Learner } from "./learner.js";
import { methodOf, type Task } from "./messages.js";
import { FinetuneRun } from "./run.js";
import { type Settings, settingsOf, textsOf } from "./settings.js";
import { deleteRun, findRun, listRuns } from "./store.js";
import type { FinetuneEstimate, FinetuneOptions, SavedFinetune } from "./types.js";

export { LearnedAdapter, LearnedModel, type MergeOptions } from "./adapter.js";
export { FinetuneRun } from "./run.js";
export type * from "./types.js";

/**
 * Learns from a text, or from several, in a worker of its own; the generator writes on meanwhile. Errors come out of
 * the run and its `adapter`.
 *
 * @throws `InvalidOptionError` for an option that is unknown or out of range.
 */
export function finetune(
  generator: Generator,
  text: string | readonly string[],
  options: FinetuneOptions = {},
): FinetuneRun {
  const settings = settingsOf(options);
  const texts = textsOf(text);
  const { name, method, saveState, signal } = settings;
  const task = () => taskOf(generator, texts, settings);
  return new FinetuneRun(generator, { id: newId(), method, name, task, earlier: null, saveState, signal });
}

/**
 * What {@link finetune} would take with the same arguments.
 *
 * @throws `InvalidOptionError` for what it would not take.
 */
export async function estimateFinetune(
  generator: Generator,
  text: string | readonly string[],
  options: FinetuneOptions = {},
): Promise<FinetuneEstimate> {
  const settings = settingsOf(options);
  const [task, weights] = await Promise.all([
    taskOf(generator, textsOf(text), settings),
    generator.contact.client.ask("weights", {}).answer,
  ]);
  const learner = new Learner(generator);
  try {
    learner.post({ kind: "plan", weights, task });
    const news = await learner.next();
    if (news.kind !== "plan") throw makeError("internal", `expected a plan of the worker, found "${news.kind}"`);
    const { memory_bytes, steps, has_held_out } = news.plan;
    const problems: string[] = [];
    const { deviceMemory } = navigator as { deviceMemory?: number }; // GiB, where a browser tells
    if (memory_bytes > MAX_MEMORY_BYTES) {
      problems.push(`memory: it takes ${memory_bytes} bytes, and WebAssembly holds at most ${MAX_MEMORY_BYTES}`);
    } else if (deviceMemory !== undefined && memory_bytes > deviceMemory * 2 ** 30) {
      problems.push(`memory: it takes ${memory_bytes} bytes, and this device has about ${deviceMemory} GiB`);
    }
    if (!has_held_out) problems.push("nothing is kept back, so nobody sees when it learns by heart");
    return { memory_bytes, steps, tokens: task.ids.length, problems };
  } finally {
    learner.stop();
  }
}

/** Fine-tunings that were cut off and can go on, of all models. */
export async function listFinetunes(): Promise<SavedFinetune[]> {
  return listRuns();
}

/**
 * Goes on with a fine-tuning that was cut off; every step is what it would have been.
 *
 * @throws `InvalidOptionError` if there is none of this id, or if the generator has another model.
 */
export async function resumeFinetune(
  generator: Generator,
  id: string,
  options: Pick<FinetuneOptions, "signal"> = {},
): Promise<FinetuneRun> {
  const { signal, ...rest } = options;
  for (const option of Object.keys(rest)) throw invalidOption(option, "signal", "an unknown option");
  if (signal !== undefined && !isSignal(signal)) throw invalidOption("signal", "an AbortSignal", signal);
  const found = await findRun(id);
  if (!found) throw invalidOption("id", "that of a fine-tuning that was cut off", id);
  const { run, state } = found;
  for (const part of ["model", "revision", "dtype"] as const) {
    if (generator.info[part] !== run[part]) throw invalidOption(`generator.${part}`, run[part], generator.info[part]);
  }
  const earlier = { state, eval_loss: run.eval_loss, steps: run.steps };
  const task = async () => run.task;
  const method = methodOf(run.task.settings);
  return new FinetuneRun(generator, { id, method, name: run.name, task, earlier, saveState: true, signal });
}

/** Forgets a fine-tuning that was cut off. Returns whether there was one. */
export async function deleteFinetune(id: string): Promise<boolean> {
  return deleteRun(id);
}

async function taskOf(generator: Generator, texts: string[], { json }: Settings): Promise<Task> {
  const all = await Promise.all(texts.map((text) => generator.tokenizer.encode(text)));
  const lengths = Uint32Array.from(all, (ids) => ids.length);
  const nIds = lengths.reduce((sum, n) => sum + n, 0);
  if (nIds === 0) throw invalidOption("text", "at least two tokens", "none");
  const ids = new Uint32Array(nIds);
  let at = 0;
  for (const text of all) {
    ids.set(text, at);
    at += text.length;
  }
  return { ids, lengths, settings: json, base: generator.info.model };
}

/** A number of 16 hexadecimal digits that no other run has. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
