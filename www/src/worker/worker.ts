/** The worker: owns the WebAssembly module and the model, answers one request after the other. */

import { abortError, makeError, toWire } from "../api/errors.js";
import { generate, isLost, score, type Pace } from "./decode.js";
import { estimate } from "./estimate.js";
import { load, reload, type Loaded } from "./load.js";
import type { Fetch } from "../files/http.js";
import type { Answers, FromWorker, ToWorker } from "../api/messages.js";
import { Latencies, type Counters } from "./latencies.js";
import { ProxyFetch } from "../files/proxy-fetch.js";
import type { PromptProgress } from "../api/types.js";
import { destroyGpu, type Session } from "../../wasm/gpt2_web.js";

/** The part of a worker's global scope that is used here: the "dom" types describe a window. */
interface WorkerScope {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener<K extends keyof WorkerGlobalEvents>(type: K, listener: (event: WorkerGlobalEvents[K]) => void): void;
  fetch: typeof fetch;
}
interface WorkerGlobalEvents {
  message: MessageEvent<ToWorker>;
  error: ErrorEvent;
  unhandledrejection: PromiseRejectionEvent;
}

const scope = globalThis as unknown as WorkerScope;
const post = (message: FromWorker, transfer: Transferable[] = []) => scope.postMessage(message, transfer);

/** Requests that are running or waiting, by id: what cancels them, and whether they are to end softly. */
const running = new Map<number, { controller: AbortController; interrupted: boolean }>();
const proxy = new ProxyFetch(post);

let loaded: Loaded | undefined;
/** Whether the request that is running is still wanted. */
let isWanted = () => true;
/** Loads the model again after its GPU was lost. */
let again: ((lost: Loaded, reason: Error, signal: AbortSignal) => Promise<Loaded>) | undefined;
let latencies = new Latencies(() => undefined);
/** Continuations by `generator.generate`, which share one text for the sake of its prefix. */
let shared: Session | undefined;
const sessions = new Map<number, Session>();
let next_session = 1;

/** The model does one thing at a time; requests wait for the one before. */
let queue: Promise<unknown> = Promise.resolve();

// A panic leaves the module unusable, and the promise it happened in pending for ever: tell the page instead.
let last_panic = "";
const console_error = console.error.bind(console);
console.error = (...args: unknown[]) => {
  if (String(args[0]).includes("panicked at")) last_panic = String(args[0]).split("\n\nStack:")[0] ?? "";
  console_error(...args);
};
const crash = (error: unknown) => {
  const wire = toWire(error);
  post({ kind: "crashed", error: { ...wire, code: "internal", message: last_panic || wire.message } });
};
scope.addEventListener("error", (event) => crash(event.error ?? event.message));
scope.addEventListener("unhandledrejection", (event) => crash(event.reason));

scope.addEventListener("message", ({ data }) => {
  switch (data.kind) {
    case "cancel":
      return running.get(data.id)?.controller.abort();
    case "interrupt": {
      const request = running.get(data.id);
      if (request) request.interrupted = true;
      return;
    }
    case "dispose":
      return dispose();
    case "fetch-head":
    case "fetch-chunk":
    case "fetch-end":
    case "fetch-error":
      return proxy.receive(data);
    default:
      return enqueue(data);
  }
});

/** Nothing that is under way may go on elsewhere when its device is gone. */
function dispose(): void {
  for (const { controller } of running.values()) controller.abort();
  try {
    if (loaded?.info.device === "webgpu") destroyGpu();
  } finally {
    post({ kind: "disposed" });
  }
}

type Request = Exclude<ToWorker, { kind: "cancel" | "interrupt" | "dispose" | "fetch-head" | "fetch-chunk" | "fetch-end" | "fetch-error" }>;

function enqueue(request: Request): void {
  const entry = { controller: new AbortController(), interrupted: false };
  running.set(request.id, entry);
  const { signal } = entry.controller;
  const pace: Pace = {
    signal,
    device: () => loaded?.info.device ?? "wasm",
    interrupted: () => entry.interrupted,
    recover: (lost) => recover(lost, signal),
  };
  queue = queue.then(async () => {
    isWanted = () => !signal.aborted && !entry.interrupted;
    try {
      if (signal.aborted) throw abortError();
      post({ kind: "result", id: request.id, value: await answer(request, pace) });
    } catch (error) {
      // WebAssembly traps after a panic: nothing of this module can be trusted any more
      if (error instanceof WebAssembly.RuntimeError) crash(error);
      else post({ kind: "error", id: request.id, error: toWire(error) });
    } finally {
      running.delete(request.id);
    }
  });
}

async function answer(request: Request, pace: Pace): Promise<unknown> {
  if (request.kind === "load" || request.kind === "estimate") {
    const progress = (event: Extract<FromWorker, { kind: "progress" }>["event"]) => post({ kind: "progress", id: request.id, event });
    // what IndexedDB keeps, the browser's own cache need not keep as well, nor mix up with what it has in part
    const cache: RequestCache = request.options.cache ? "no-store" : "default";
    const fetch: Fetch = request.options.custom_fetch ? proxy.fetch : (url, init) => scope.fetch(url, { ...init, cache });
    if (request.kind === "estimate") return estimate(request.model, request.options, fetch, pace.signal);
    const { model: source, options } = request;
    const asked = { source, options, fetch, emit: progress, isWanted: () => isWanted() };
    loaded = await load({ ...asked, signal: pace.signal });
    again = (lost, reason, signal) => reload(lost, reason, { ...asked, signal });
    latencies = new Latencies(() => loaded?.model.counters() as Counters);
    shared = loaded.model.session();
    return loaded.info;
  }
  if (!loaded || !shared) throw new Error(`"${request.kind}" before a model is loaded`);
  const { model } = loaded;
  const ids_of = (text: string | number[]) => (typeof text === "string" ? model.encode(text) : Uint32Array.from(text));
  switch (request.kind) {
    case "generate": {
      const emit = (message: Extract<FromWorker, { kind: "chunk" }>["chunk"]) =>
        post({ kind: "chunk", id: request.id, chunk: message }, message.attentions?.map((a) => a.buffer as ArrayBuffer) ?? []);
      const told = (event: PromptProgress) => post({ kind: "prompt", id: request.id, event });
      const ids = ids_of(request.prompt);
      if (request.session !== null) {
        const session = find(request.session);
        session.append(ids);
        const prompt = Array.from(session.ids()); // a recipe begins where the text does
        return current({ ...(await generate(session, request.options, pace, emit, told, latencies, () => session.rewind(ids.length))), prompt });
      }
      const { prefix_reuse } = shared.checkOptions(request.options) as { prefix_reuse: boolean };
      shared.replace(ids, prefix_reuse);
      return current(await generate(shared, request.options, pace, emit, told, latencies, () => undefined));
    }
    case "score": {
      const run = ({ model }: Loaded) => score(model.scorer(model.encode(request.text)), pace);
      return run(loaded).catch(async (error: unknown) => {
        if (!isLost(error)) throw error;
        await pace.recover(error);
        return run(loaded as Loaded); // from the beginning: nothing of it has been told
      });
    }
    case "encode":
      return Array.from(model.encode(request.text));
    case "decode":
      return model.decode(Uint32Array.from(request.ids));
    case "stats":
      return latencies.stats(loaded.bytes_held());
    case "session-open": {
      const session = request.clone_of === null ? model.session() : find(request.clone_of).clone();
      sessions.set(next_session, session);
      return { session: next_session++, context_usage: session.contextUsage() };
    }
    case "session-append":
      find(request.session).append(ids_of(request.text));
      return find(request.session).contextUsage();
    case "session-rewind":
      find(request.session).rewind(request.n_tokens);
      return find(request.session).contextUsage();
    case "session-close":
      sessions.get(request.session)?.free();
      return sessions.delete(request.session);
    default:
      throw new Error(`unknown request ${JSON.stringify(request satisfies never)}`);
  }
}

/** Whether `info` is not what the page was told at loading. */
let has_moved = false;

/** Moves the model and every text to another device after theirs was lost. */
async function recover(lost: Error, signal: AbortSignal): Promise<void> {
  if (!loaded || !again) throw lost;
  const gone = loaded;
  const fresh = await again(gone, lost, signal);
  for (const session of [...sessions.values(), ...(shared ? [shared] : [])]) fresh.model.takeOver(session);
  [loaded, has_moved] = [fresh, true];
  gone.model.free();
}

/** An answer, with what runs the model now if that has changed. */
function current(answer: Answers["generate"]): Answers["generate"] {
  return has_moved && loaded ? { ...answer, info: loaded.info } : answer;
}

function find(number: number): Session {
  const session = sessions.get(number);
  if (!session) throw makeError("disposed", `session ${number} is disposed`);
  return session;
}
