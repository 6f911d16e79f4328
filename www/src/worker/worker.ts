/** The worker: hears the page's messages, and answers its requests; those that write run side by side. */

import { abortError, toWire } from "../api/errors.js";
import type { FromWorker, Request, RequestName, ToWorker } from "../api/messages.js";
import { ProxyFetch } from "../files/proxy-fetch.js";
import type { Fetch } from "../files/request.js";
import { answer, type Context, keptNow, returnGpu } from "./answers.js";
import { isTrap, panicMessage } from "./wasm.js";

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
const running = new Map<number, { controller: AbortController; isInterrupted: boolean }>();
const proxy = new ProxyFetch(post);

/** Ends a load that moves the model to another device. */
const ending = new AbortController();

/** All other requests wait for a load. */
let loading: Promise<unknown> = Promise.resolve();

/** Tells the page that nothing can be asked any more. A panic says more than the trap that it ends in. */
function crash(error: unknown): void {
  const wire = toWire(error);
  post({ kind: "crashed", error: { ...wire, code: "internal", message: panicMessage() ?? wire.message } });
}
scope.addEventListener("error", (event) => crash(event.error ?? event.message));
scope.addEventListener("unhandledrejection", (event) => crash(event.reason));

scope.addEventListener("message", ({ data }) => {
  switch (data.kind) {
    case "request":
      enqueue(data);
      break;
    case "cancel":
      running.get(data.id)?.controller.abort();
      break;
    case "interrupt": {
      const request = running.get(data.id);
      if (request) request.isInterrupted = true;
      break;
    }
    case "dispose":
      void dispose();
      break;
    case "fetch-head":
    case "fetch-chunk":
    case "fetch-end":
    case "fetch-error":
      proxy.receive(data);
      break;
    default:
      throw new Error(`unknown message of the page: ${JSON.stringify(data satisfies never)}`);
  }
});

/**
 * Ends what is under way, so that it does not go on elsewhere when its device is gone, waits until the weights are
 * kept, and returns the device.
 */
async function dispose(): Promise<void> {
  ending.abort();
  for (const { controller } of running.values()) controller.abort();
  try {
    await keptNow();
    returnGpu();
  } finally {
    post({ kind: "disposed" });
  }
}

function enqueue(request: Request<RequestName>): void {
  const { id, name } = request;
  const entry = { controller: new AbortController(), isInterrupted: false };
  running.set(id, entry);
  const { signal } = entry.controller;
  const context: Context = {
    pace: { signal, interrupted: () => entry.isInterrupted },
    tell: {
      progress: (event) => post({ kind: "progress", id, event }),
      kept: (kept) => post({ kind: "kept", id, ...kept }),
      prompt: (event) => post({ kind: "prompt", id, event }),
      chunk: (chunk) => post({ kind: "chunk", id, chunk }, chunk.attentions?.map((a) => a.buffer as ArrayBuffer) ?? []),
    },
    fetchOf: ({ cache, custom_fetch }) => (custom_fetch ? proxy.fetch : platformFetch(cache)),
    ending: ending.signal,
  };
  const run = async () => {
    try {
      if (signal.aborted) throw abortError();
      post({ kind: "result", id, name, value: await answer(request, context) });
    } catch (error) {
      // WebAssembly traps after a panic: nothing of this module can be trusted any more.
      if (isTrap(error)) crash(error);
      else post({ kind: "error", id, error: toWire(error) });
    } finally {
      running.delete(id);
    }
  };
  const answered = loading.then(run);
  if (name === "load") loading = answered;
}

/** What IndexedDB keeps, the browser's own cache need not keep as well, nor mix up with what it has in part. */
function platformFetch(hasCache: boolean): Fetch {
  return (url, init) => scope.fetch(url, { ...init, cache: hasCache ? "no-store" : "default" });
}
