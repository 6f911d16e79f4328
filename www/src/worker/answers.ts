/** What the worker answers to each request: it owns the model and the texts. */

import type { Session } from "../../wasm/gpt2_web.js";
import { makeError } from "../api/errors.js";
import type {
  Answer,
  Body,
  Kept,
  Request,
  RequestName,
  WireInfo,
  WireLoadOptions,
  WireResult,
} from "../api/messages.js";
import type { Chunk, ProgressEvent, PromptProgress } from "../api/types.js";
import type { Fetch } from "../files/request.js";
import { generate, isLost, type Pace, score } from "./decode.js";
import { estimate } from "./estimate.js";
import { type Counters, Latencies } from "./latencies.js";
import { type Loaded, load, reload } from "./load.js";
import { wasm } from "./wasm.js";

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
  fetchOf(options: WireLoadOptions): Fetch;
  /** Whether the request that is running when this is called, be it a later one, is still wanted. */
  isWanted(): boolean;
}

type Answers = { [N in RequestName]: (body: Body<N>, context: Context) => Answer<N> | Promise<Answer<N>> };

let loaded: Loaded | undefined;
/** Loads the model again after its GPU was lost. */
let again: ((lost: Loaded, reason: Error, signal: AbortSignal) => Promise<Loaded>) | undefined;
/** Whether `loaded.info` is not what the page was told at loading. */
let hasMoved = false;
let latencies = new Latencies(() => undefined);
/** The text that all continuations by `generator.generate` share, so that a common beginning is computed once. */
let shared: Session | undefined;
const sessions = new Map<number, Session>();
let nextSession = 1;

const answers: Answers = {
  async load({ model: source, options }, { pace, tell, fetchOf, isWanted }) {
    const asked = { source, options, fetch: fetchOf(options), emit: tell.progress, isWanted };
    const fresh = await load({ ...asked, signal: pace.signal });
    loaded = fresh;
    again = (lost, reason, signal) => reload(lost, reason, { ...asked, signal });
    latencies = new Latencies(() => loaded?.model.counters() as Counters);
    shared = fresh.model.session();
    void fresh.keeping.done.then(tell.kept);
    return fresh.info;
  },

  estimate({ model, options }, { pace, fetchOf }) {
    return estimate(model, options, fetchOf(options), pace.signal);
  },

  async generate({ session: number, prompt, options }, { pace, tell }) {
    const generation = { options, pace, emit: tell.chunk, told: tell.prompt, latencies };
    if (number !== null) {
      const session = find("generate", number);
      const ids = idsOf("generate", prompt, session);
      session.append(ids);
      const whole = Array.from(session.ids()); // a recipe begins where the text does
      const undo = () => session.rewind(ids.length);
      return current({ ...(await generate({ ...generation, session, undo })), prompt: whole });
    }
    const { session } = ready("generate");
    const ids = idsOf("generate", prompt);
    const { prefix_reuse } = session.checkOptions(options) as { prefix_reuse: boolean };
    session.replace(ids, prefix_reuse);
    return current(await generate({ ...generation, session, undo: () => undefined }));
  },

  async score({ text }, { pace }) {
    const run = () => {
      const { model } = ready("score");
      return score(model.scorer(model.encode(text)), pace);
    };
    try {
      return await run();
    } catch (error) {
      if (!isLost(error)) throw error;
      await pace.recover(error);
      return run(); // from the beginning, since nothing of the score has been told yet
    }
  },

  encode: ({ text }) => Array.from(ready("encode").model.encode(text)),

  decode: ({ ids }) => ready("decode").model.decode(Uint32Array.from(ids)),

  stats: () => latencies.stats(ready("stats").bytesHeld()),

  "session-open"({ clone_of }) {
    const { model } = ready("session-open");
    const session = clone_of === null ? model.session() : find("session-open", clone_of).clone();
    sessions.set(nextSession, session);
    return { session: nextSession++, context_usage: session.contextUsage() };
  },

  "session-append"({ session: number, text }) {
    const session = find("session-append", number);
    session.append(idsOf("session-append", text, session));
    return session.contextUsage();
  },

  "session-rewind"({ session: number, n_tokens }) {
    const session = find("session-rewind", number);
    session.rewind(n_tokens);
    return session.contextUsage();
  },

  "session-close"({ session: number }) {
    sessions.get(number)?.free();
    return sessions.delete(number);
  },
};

/** Answers a request. */
export async function answer<N extends RequestName>({ name, body }: Request<N>, context: Context): Promise<Answer<N>> {
  if (!Object.hasOwn(answers, name)) throw new Error(`unknown request ${JSON.stringify(name)}`);
  return answers[name](body, context);
}

/** What runs the model now. */
export function currentDevice(): "webgpu" | "wasm" {
  return loaded?.info.device ?? "wasm";
}

/** Waits until the model's weights are kept, if they are about to be. */
export async function keptNow(): Promise<void> {
  await loaded?.keeping.done;
}

/** Returns the GPU's memory, if any was taken. */
export function returnGpu(): void {
  if (currentDevice() === "webgpu") wasm().destroyGpu();
}

/** Moves the model and every text to another device after theirs was lost. */
export async function recover(lost: Error, signal: AbortSignal): Promise<void> {
  if (!loaded || !again) throw lost;
  const gone = loaded;
  await gone.keeping.stop(); // it reads from the device that is gone, and the next load waits for it
  const fresh = await again(gone, lost, signal);
  for (const session of [...sessions.values(), ...(shared ? [shared] : [])]) fresh.model.takeOver(session);
  [loaded, hasMoved] = [fresh, true];
  gone.model.free();
}

/** The model, the text that continuations share, and what they take. */
function ready(name: RequestName): Loaded & { session: Session } {
  if (!loaded || !shared) throw new Error(`"${name}" before a model is loaded`);
  return { ...loaded, session: shared };
}

/**
 * The ids of a text that is put behind what a session holds. A text begins with the tokenizer's special tokens once.
 */
function idsOf(name: RequestName, text: string | number[], session?: Session): Uint32Array {
  if (typeof text !== "string") return Uint32Array.from(text);
  const { model } = ready(name);
  return session && session.ids().length > 0 ? model.encodeContinuation(text) : model.encodePrompt(text);
}

/** An answer, with what runs the model now if that has changed. */
function current(result: WireResult): WireResult {
  const info: WireInfo | undefined = hasMoved ? loaded?.info : undefined;
  return info ? { ...result, info } : result;
}

function find(name: RequestName, number: number): Session {
  ready(name);
  const session = sessions.get(number);
  if (!session) throw makeError("disposed", `session ${number} is disposed`);
  return session;
}
