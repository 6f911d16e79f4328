// A page as its visitors have it: the states it goes through, pictures of it, and errors that nobody caught.
import { mkdirSync } from "node:fs";
import path from "node:path";
import { untilInPage } from "./until.mjs";

/** A folder to leave pictures in. */
const SHOTS = process.env.GPT2_WEB_SCREENSHOTS;

/** Keeps every state that `<html data-state>` goes through, however short. Runs in the page before its own scripts. */
function recordStates() {
  window.states = [];
  let last;
  const record = () => {
    const state = document.documentElement?.dataset.state;
    if (state !== last) window.states.push(state);
    last = state;
  };
  new MutationObserver(record).observe(document, { attributeFilter: ["data-state"], childList: true, subtree: true });
}

/** Opens an empty tab in which a page can be watched. */
export async function openWatchedPage(context) {
  const page = await context.newPage();
  await page.addInitScript(recordStates);
  const thrown = [];
  page.on("pageerror", (error) => thrown.push(String(error)));

  /** Waits until the page is in a state, or was in it since it was opened or {@link stateAfter} was called. */
  const state = (name) => untilInPage(page, `the page is ${name}`, (name) => window.states.includes(name), name);
  /** Does something to the page and waits until that has brought it into a state. */
  const stateAfter = async (action, name) => {
    await page.evaluate(() => (window.states = []));
    await action();
    await state(name);
  };
  const shot = async (name, options = {}) => {
    if (!SHOTS) return;
    mkdirSync(SHOTS, { recursive: true });
    await page.screenshot({ path: path.join(SHOTS, `${name}.png`), ...options });
  };
  return { page, thrown, state, stateAfter, shot };
}

/** Waits until the project's page has all that a visit without a network needs. */
export async function untilOffline(page) {
  // a service worker is installed when its cache is complete
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
}
