/** A server from which nothing comes: it is given up after a while, as if the connection had been cut. */

/** How long nothing may come. */
const SILENCE_MS = 30_000;

/**
 * What a promise gives, or a failure like that of a connection that breaks if nothing comes for too long. `giveUp` ends
 * what is waited for.
 */
export async function unlessSilent<T>(coming: Promise<T>, giveUp: () => void): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new TypeError(`nothing came for ${SILENCE_MS / 1000} s`));
      giveUp();
    }, SILENCE_MS);
  });
  coming.catch(() => undefined); // nobody waits any more for what fails after it was given up
  try {
    return await Promise.race([coming, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits, until the signal aborts. */
export function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", cancel);
      resolve();
    }, ms);
    if (signal.aborted) cancel();
    else signal.addEventListener("abort", cancel, { once: true });
  });
}
