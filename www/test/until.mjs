// Waiting for something to be so, for a limited time; whoever waits in vain says what for.
import { setTimeout as sleep } from "node:timers/promises";

/** Long enough for a machine that does much else. */
const TIMEOUT_MS = 60_000;

/** Asks again and again until `isSo()` is true, or resolves to that. `what` completes the sentence "waited until …". */
export async function until(what, isSo) {
  const end = performance.now() + TIMEOUT_MS;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`waited ${TIMEOUT_MS / 1000} s in vain until ${what}`);
    await sleep(10);
  }
}

/** As {@link until}, with a condition that runs in the page, also if that is reloaded. It may not be asynchronous. */
export async function untilInPage(page, what, condition, argument = null) {
  try {
    await page.waitForFunction(condition, argument, { timeout: TIMEOUT_MS });
  } catch (error) {
    if (error.name !== "TimeoutError") throw error;
    throw new Error(`waited ${TIMEOUT_MS / 1000} s in vain until ${what}`, { cause: error });
  }
}
