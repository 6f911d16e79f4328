/** A worker that is about to be asked about a model. */

import { workerScript } from "../files/assets.js";
import { resolve } from "../files/source.js";
import { Client } from "./client.js";
import { Gpt2Error, makeError, reasonOf } from "./errors.js";
import type { Body, WireLoadOptions, WireModel } from "./messages.js";
import { startWorker } from "./start-worker.js";
import type { CreateGeneratorOptions, ModelSource } from "./types.js";
import { checkCreateOptions, isWorker } from "./validate.js";
import { filesFor } from "./worker-files.js";

/** Who is told of the steps of loading. */
export const progressOf = ({ progress_callback: progress }: CreateGeneratorOptions) => (progress ? { progress } : {});

/**
 * An answer about a model or, where the model is a converted folder that is of no use here and names its original,
 * about that; `warning` says so then.
 */
export async function orOfOriginal<A>(
  model: WireModel,
  options: CreateGeneratorOptions,
  ask: (model: WireModel) => Promise<A>,
): Promise<{ answer: A; warning: string | null }> {
  const asked = (model: WireModel) =>
    ask(model).then(
      (answer) => ({ answer }),
      (error: unknown) => {
        const isSent = error instanceof Gpt2Error && error.code === "use_original";
        if (!isSent) throw error;
        return error as Gpt2Error & { model: string; revision?: string };
      },
    );
  const first = await asked(model);
  if ("answer" in first) return { ...first, warning: null };
  const { revision: _, ...others } = options;
  const { model: name, revision } = first;
  const second = await asked(resolve(name, revision === undefined ? others : { ...others, revision }));
  if ("answer" in second) return { ...second, warning: first.message };
  const found = `${first.message}, which is such a folder too`;
  const details = { file: "gpt2-web.json", field: "original", expected: "a checkpoint", found: name };
  throw makeError("unsupported_model", found, details);
}

/** A worker that is about to be asked about a model. */
export interface Contact {
  client: Client;
  body: Body<"load">;
  /** Where the caller says that the package's files are. */
  wasmUrl: CreateGeneratorOptions["wasm_url"];
  /** Passes the answer on. An abort ends the worker, as long as the answer is not there. */
  untilAborted<T>(answer: Promise<T>): Promise<T>;
}

/** Checks what the caller passed, and starts a worker or takes over the caller's. */
export function contact(what: "load" | "estimate", model: ModelSource, options: CreateGeneratorOptions): Contact {
  checkCreateOptions(options);
  const { signal } = options;
  const source = resolve(model, options);
  if (signal?.aborted) throw reasonOf(signal);
  const files = filesFor(options.wasm_url);
  // An estimate has a worker of its own, which ends with it.
  const given = what === "load" && isWorker(options.worker) ? options.worker : undefined;
  const script = workerScript();
  const client = given ? new Client(given, options.fetch) : new Client(startWorker(script), options.fetch, script.href);
  const cancel = () => signal && client.abort(reasonOf(signal));
  signal?.addEventListener("abort", cancel, { once: true });
  const wire: WireLoadOptions = {
    device: options.device ?? "auto",
    cache: options.cache ?? true,
    verify: options.verify ?? true,
    dtype: options.dtype ?? "auto",
    threads: options.threads ?? "auto",
    max_batch_size: options.max_batch_size ?? null,
    files,
    custom_fetch: options.fetch !== undefined,
  };
  return {
    client,
    body: { model: source, options: wire },
    wasmUrl: options.wasm_url,
    untilAborted: (answer) => answer.finally(() => signal?.removeEventListener("abort", cancel)),
  };
}
