/**
 * Of several tabs that load the same model, one after the other does, and those that wait tell how far the first is.
 */

import type { ProgressEvent } from "../api/types.js";

/** One tab's load of a model. */
export interface Turn<T> {
  signal: AbortSignal;
  /** Called while another tab loads the model, with its progress where it tells some. */
  waiting(other?: ProgressEvent): void;
  /** Loads it; `tell` passes an event on to the tabs that wait. */
  run(tell: (event: ProgressEvent) => void): Promise<T>;
}

/** A question of a tab that has begun to wait, or how far the tab is that loads. */
type Said = { ask: true } | { event: ProgressEvent };

/** Runs when no other tab does so under the same name. */
export async function inTurn<T>(name: string, { signal, waiting, run }: Turn<T>): Promise<T> {
  // Pages that are not served securely have no locks, and opaque origins may not ask for one. There, the store notices
  // a second writer.
  const hasLocks = await navigator.locks?.query().then(
    () => true,
    () => false,
  );
  if (!hasLocks) return run(() => undefined);
  const told = () => runAndTell(name, run);
  const first = await navigator.locks.request(name, { ifAvailable: true }, async (lock) =>
    lock ? { value: await told() } : null,
  );
  if (first) return first.value;
  waiting();
  const channel = openChannel(name, (said) => {
    if ("event" in said) waiting(said.event);
  });
  channel?.postMessage({ ask: true });
  const stop = () => channel?.close();
  try {
    return await navigator.locks.request(name, { signal }, () => {
      stop();
      return told();
    });
  } finally {
    stop();
  }
}

async function runAndTell<T>(name: string, run: Turn<T>["run"]): Promise<T> {
  let last: ProgressEvent | undefined;
  const post = () => last && channel?.postMessage({ event: last });
  const channel = openChannel(name, (said) => {
    if ("ask" in said) post();
  });
  try {
    return await run((event) => {
      if (event.status !== "progress_total") return;
      last = event;
      post();
    });
  } finally {
    channel?.close();
  }
}

function openChannel(name: string, hear: (said: Said) => void): BroadcastChannel | undefined {
  try {
    const channel = new BroadcastChannel(name);
    channel.addEventListener("message", ({ data }: MessageEvent<Said>) => hear(data));
    return channel;
  } catch {
    return undefined; // where storage is denied, there is no channel either; the tab waits without news
  }
}
