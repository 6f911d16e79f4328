/**
 * A signal that aborts with the first of two; `AbortSignal.any` is newer than the oldest browsers that are supported.
 */

/** Aborts as soon as one of them does, with its reason; `first` may be missing. */
export function eitherSignal(first: AbortSignal | undefined, second: AbortSignal): AbortSignal {
  if (!first) return second;
  const controller = new AbortController();
  for (const signal of [first, second]) {
    if (signal.aborted) controller.abort(signal.reason);
    // ends with the first abort of either, since `controller` is what removes the listeners
    signal.addEventListener("abort", () => controller.abort(signal.reason), { signal: controller.signal });
  }
  return controller.signal;
}
