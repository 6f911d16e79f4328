/** What the worker answers to each request: it owns the model and the texts. */

import type { Session } from "../../wasm/gpt2_web.js";
import { abortError, invalidOption } from "../api/errors.js";
import type { Answer, Body, Kept, Request, RequestName, WireLoadOptions, WireResult } from "../api/messages.js";
import type { Chunk, ProgressEvent, PromptProgress } from "../api/types.js";
import type { Fetch } from "../files/request.js";
import { estimate } from "./estimate.js";
import { type Loaded, type LoadRequest, load, reload } from "./load.js";
import { Loop } from "./loop.js";
import { LoraAdapters, type Weights } from "./lora.js";
import { readAdapter } from "./lora-files.js";
import { type Counters, type Figures, Metrics } from "./metrics.js";
import { readSmallFiles } from "./small-files.js";
import type { Pace } from "./task.js";
import { Texts } from "./texts.js";
import { wasm } from "./wasm.js";
import { type Desk, generate, score, usageOf } from "./writing.js";

/** What belongs to one request besides its body. */
export interface Context {
  pace: Pace;
  /** Tells the page something before the answer. */
  tell: {
    progress(event: ProgressEvent): void;
    kept(kept: Kept): void;
    prompt(event: PromptProgress): void;
    chunk(chunk: Chunk): void;
  };
  /** What fetches the files of a model. */
  fetchOf(options: Pick<WireLoadOptions, "cache" | "custom_fetch">): Fetch;
  /** Aborts when the worker is about to end. */
  ending: AbortSignal;
}

type Answers = { [N in RequestName]: (body: Body<N>, context: Context) => Answer<N> | Promise<Answer<N>> };

/** A loaded model, and what works with it. */
interface Office extends Desk {
  loaded: Loaded;
  /** What was asked to be loaded. */
  asked: Pick<LoadRequest, "source" | "options" | "fetch">;
  texts: Texts;
  lora: LoraAdapters;
  /** Whether `loaded.info` is not what the page was told at loading. */
  hasMoved: boolean;
}

let office: Office | undefined;

const answers: Answers = {
  async load({ model: source, options }, { pace, tell, fetchOf, ending }) {
    const asked = {
      source,
      options,
      fetch: fetchOf(options),
      emit: tell.progress,
      isWanted: () => office?.loop.isWanted() ?? !pace.signal.aborted,
    };
    const loaded = await load({ ...asked, signal: pace.signal });
    const { model, keeping, info } = loaded;
    const scheduler = model.scheduler(options.max_batch_size ?? undefined);
    const metrics = new Metrics(() => office?.loaded.model.counters() as Counters);
    const recover = (lost: Error) => move(lost, (gone) => reload(gone, lost, { ...asked, signal: ending }));
    const loop = new Loop(scheduler, { device: currentDevice, recover }, metrics);
    const [texts, lora] = [new Texts(model), new LoraAdapters(model)];
    office = { loaded, asked, scheduler, loop, metrics, texts, lora, hasMoved: false };
    void keeping.done.then(tell.kept);
    return info;
  },

  estimate({ model, options }, { pace, fetchOf }) {
    return estimate(model, options, fetchOf(options), pace.signal);
  },

  async generate({ session: number, prompt, options, adapter: choice }, { pace, tell }) {
    const here = ready("generate");
    const generation = { options, pace, emit: tell.chunk, told: tell.prompt };
    if (number === null) {
      const ids = idsOf(prompt);
      const { prefix_reuse } = checked(here, options);
      return here.lora.using(choice, async (adapter, names) => {
        const result = await here.texts.withTokens(ids, prefix_reuse, adapter, (session) =>
          generate(here, { ...generation, session, undo: () => undefined }),
        );
        return current(result, names);
      });
    }
    const goOn = async (session: Session, adapter: number | undefined, names: Weights | null) => {
      if (pace.signal.aborted) throw abortError();
      session.setAdapter(adapter);
      const { num_return_sequences: n } = checked(here, options);
      if (n > 1)
        throw invalidOption("num_return_sequences", "1 in a session, which is one text; clone() gives more", n);
      const ids = idsOf(prompt, session);
      session.append(ids);
      const whole = Array.from(session.ids()); // a recipe begins where the text does
      const undo = () => session.rewind(ids.length);
      return current({ ...(await generate(here, { ...generation, session, undo })), prompt: whole }, names);
    };
    return here.lora.using(choice, (adapter, names) =>
      here.texts.with(number, (session) => goOn(session, adapter, names)),
    );
  },

  score({ text, adapter: choice }, { pace }) {
    const here = ready("score");
    const { model } = here.loaded;
    return here.lora.using(choice, (adapter) => score(here, model.scorer(model.encode(text), adapter), pace));
  },

  encode: ({ text }) => Array.from(ready("encode").loaded.model.encode(text)),

  decode: ({ ids }) => ready("decode").loaded.model.decode(Uint32Array.from(ids)),

  stats() {
    const { loaded, scheduler, metrics, texts } = ready("stats");
    const figures = scheduler.figures() as Figures;
    return metrics.stats(figures, {
      bytes_held: loaded.bytesHeld(),
      cache_bytes: loaded.cacheBytes() ?? figures.cache_bytes + texts.idleBytes(),
      open_sessions: texts.nOpen,
    });
  },

  async "session-open"({ clone_of }) {
    const { loaded, texts } = ready("session-open");
    const clone = clone_of === null ? loaded.model.session() : await texts.with(clone_of, (session) => session.clone());
    return { session: texts.open(clone), ...usageOf(clone) };
  },

  "session-append"({ session: number, text }) {
    return ready("session-append").texts.with(number, (session) => {
      session.append(idsOf(text, session));
      return usageOf(session);
    });
  },

  "session-rewind"({ session: number, n_tokens }) {
    return ready("session-rewind").texts.with(number, (session) => {
      session.rewind(n_tokens);
      return usageOf(session);
    });
  },

  "session-close": ({ session: number }) => ready("session-close").texts.close(number),

  async "adapter-load"({ source, name, weight, options }, { pace, fetchOf }) {
    const { lora } = ready("adapter-load");
    const free = lora.reserve(name, source.name);
    try {
      const files = await readAdapter(source, { ...options, fetch: fetchOf(options), signal: pace.signal });
      return await lora.add(free, { ...files, source: source.name, weight });
    } finally {
      lora.giveBack(free);
    }
  },

  "adapter-set"({ adapter }) {
    ready("adapter-set").lora.choose(adapter);
    return null;
  },

  "adapter-unload": ({ name }) => ready("adapter-unload").lora.unload(name),

  "adapter-list": () => ready("adapter-list").lora.list(),

  weights: () => ready("weights").loaded.weights,

  "weights-read": ({ offset, n_bytes }) =>
    ready("weights-read").loaded.model.readPacked(offset, n_bytes) as Promise<Uint8Array<ArrayBuffer>>,

  "small-files": (_, { pace }) => readSmallFiles(ready("small-files").asked, pace.signal),
};

/** Answers a request. */
export async function answer<N extends RequestName>({ name, body }: Request<N>, context: Context): Promise<Answer<N>> {
  if (!Object.hasOwn(answers, name)) throw new Error(`unknown request ${JSON.stringify(name)}`);
  return answers[name](body, context);
}

/** What runs the model now. */
function currentDevice(): "webgpu" | "wasm" {
  return office?.loaded.info.device ?? "wasm";
}

/** Waits until the model's weights are kept, if they are about to be. */
export async function keptNow(): Promise<void> {
  await office?.loaded.keeping.done;
}

/** Returns the GPU's memory, if any was taken. */
export function returnGpu(): void {
  if (currentDevice() === "webgpu") wasm().destroyGpu();
}

/** Moves the model and every text to another device after theirs was lost. */
async function move(lost: Error, again: (gone: Loaded) => Promise<Loaded>): Promise<void> {
  if (!office) throw lost;
  const gone = office.loaded;
  await gone.keeping.stop(); // it reads from the device that is gone, and the next load waits for it
  const fresh = await again(gone);
  await office.lora.moveTo(fresh.model);
  office.texts.moveTo(fresh.model);
  fresh.model.takeOverAll(office.scheduler);
  [office.loaded, office.hasMoved] = [fresh, true];
  gone.model.free();
}

function ready(name: RequestName): Office {
  if (!office) throw new Error(`"${name}" before a model is loaded`);
  return office;
}

/** Options with every default, checked before anything is done. */
function checked({ loaded }: Office, options: string): { prefix_reuse: boolean; num_return_sequences: number } {
  return loaded.model.checkOptions(options) as { prefix_reuse: boolean; num_return_sequences: number };
}

/**
 * The ids of a text that is put behind what a session holds. A text begins with the tokenizer's special tokens once.
 */
function idsOf(text: string | number[], session?: Session): Uint32Array {
  if (typeof text !== "string") return Uint32Array.from(text);
  const { model } = ready("generate").loaded;
  return session && session.ids().length > 0 ? model.encodeContinuation(text) : model.encodePrompt(text);
}

/** An answer, with the adapters that it was computed with, and with what runs the model now if that has changed. */
function current(result: WireResult, adapter: Weights | null): WireResult {
  const options = { ...result.options, adapter };
  return { ...result, options, ...(office?.hasMoved ? { info: office.loaded.info } : {}) };
}
