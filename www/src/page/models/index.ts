/**
 * Models: what is in use (`in-use.ts`), choosing another (`chooser.ts`), what is kept on this machine (`stored.ts`,
 * `kept-adapters.ts`).
 */

import { startChooser } from "./chooser.js";
import { startInUse } from "./in-use.js";
import { startKeptAdapters } from "./kept-adapters.js";
import { startStored } from "./stored.js";

/** Wires the view. */
export function start(): void {
  startInUse();
  startChooser();
  startStored();
  startKeptAdapters();
}
