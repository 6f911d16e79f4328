// The browsers that the core tests run in, behind one small interface; and what is kept of one in which a test fails.
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { findProgram } from "../browser.mjs";
import * as chromium from "./chromium.mjs";
import * as firefox from "./firefox.mjs";
import * as webkit from "./webkit.mjs";

/**
 * A browser with a fresh profile, by its only tab.
 *
 * @typedef {object} Tab
 * @property {string} version of the browser, with its name
 * @property {(url: string) => Promise<void>} goto opens a page and waits until it is loaded
 * @property {(body: Function, argument?: unknown) => Promise<unknown>} evaluate
 *   calls a function in the page, asynchronous or not; what goes in and comes out is plain JSON
 * @property {(x: number, y: number) => Promise<void>} click at a place, in CSS pixels from the window's corner
 * @property {(text: string) => Promise<void>} type on the keyboard
 * @property {(key: string) => Promise<void>} press a key by its name, such as "Tab"
 * @property {(path: string) => Promise<void>} screenshot as a PNG
 * @property {() => Promise<void>} close
 */

/**
 * What the browser says, in a file.
 *
 * @typedef {{ fd: number, write: (text: string | Uint8Array) => void }} Log
 */

/** @typedef {(programs: Record<string, string>, log: Log, options?: object) => Promise<Tab>} Open */

/** A folder to leave pictures in. */
const SHOTS = process.env.GPT2_WEB_SCREENSHOTS;

/** By name, how each is opened (`open`), and by the environment variable that may name it what that needs (`needs`). */
export const BROWSERS = { Chromium: chromium, Firefox: firefox, WebKit: webkit };

/** Where the programs are that a browser needs, and which are `missing`. */
export function findPrograms(needs) {
  const programs = {};
  const missing = [];
  for (const [variable, names] of Object.entries(needs)) {
    programs[variable] = process.env[variable] || findProgram(names);
    if (!programs[variable]) missing.push(names[0]);
  }
  return { programs, missing };
}

/** Opens a browser. Its tab has also `keep(name)`, which leaves a picture and the log in a folder and tells where. */
export async function openKept({ open }, programs, options) {
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  const folder = mkdtempSync(path.join(SHOTS ?? os.tmpdir(), "gpt2-web-browser-"));
  const fd = openSync(path.join(folder, "log.txt"), "a");
  let isKept = false;
  const log = { fd, write: (text) => void writeSync(fd, text) };
  const tab = await open(programs, log, options).catch((error) => {
    throw new Error(`${error.message}\nthe browser's log is in ${folder}`, { cause: error });
  });
  return {
    ...tab,
    async keep(name) {
      isKept = true;
      const file = path.join(folder, `${name.replaceAll(/\W+/g, "-")}.png`);
      const failure = await tab.screenshot(file).catch((error) => error);
      return failure ? `its log is in ${folder}; it gives no picture (${failure.message})` : `see ${file}, and log.txt`;
    },
    async close() {
      await tab.close();
      closeSync(fd);
      if (!isKept) rmSync(folder, { recursive: true });
    },
  };
}
