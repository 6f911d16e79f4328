/**
 * Fine-tunings under way, in IndexedDB: in a database of their own, since only pages that learn have it. What does not
 * change is written once, and the state after each step.
 */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { type LearnedFiles, methodOf, type RunState, type Task } from "./messages.js";
import type { SavedFinetune } from "./types.js";

/** A run: what is learnt, and beside which model. */
export interface RunEntry extends Omit<SavedFinetune, "step" | "saved_at" | "method"> {
  task: Task;
  /** Of what is kept back, before anything was learnt. */
  eval_loss: number | null;
}

/** Where it stands. */
export interface StateEntry {
  id: string;
  step: number;
  saved_at: string;
  state: RunState;
  /** What was learnt until this step. */
  newest: Kept;
  /** The best so far, if any was measured. */
  best: Kept | null;
}

/** What was learnt, and when it was so. */
export interface Kept {
  files: LearnedFiles;
  /** Its loss on what is kept back, if it was measured. */
  eval_loss: number | null;
  step: number;
}

interface Schema extends DBSchema {
  runs: { key: string; value: RunEntry };
  states: { key: string; value: StateEntry };
}

const DATABASE = "gpt2-web-learn";

let database: Promise<IDBPDatabase<Schema>> | undefined;

function open(): Promise<IDBPDatabase<Schema>> {
  database ??= openNow();
  // A failure is told to whoever asked; the next call tries again.
  database.catch(() => (database = undefined));
  return database;
}

/** As a promise whatever happens: where storage is forbidden, IndexedDB throws at once. */
async function openNow(): Promise<IDBPDatabase<Schema>> {
  return openDB<Schema>(DATABASE, 1, {
    upgrade(db) {
      db.createObjectStore("runs", { keyPath: "id" });
      db.createObjectStore("states", { keyPath: "id" });
    },
    blocking(_current, _blocked, event) {
      database = undefined;
      (event.target as IDBDatabase).close();
    },
    terminated: () => (database = undefined),
  });
}

/** Keeps what a run is. */
export async function keepRun(run: RunEntry): Promise<void> {
  await (await open()).put("runs", run);
}

/** Keeps where it stands. */
export async function keepState(state: StateEntry): Promise<void> {
  await (await open()).put("states", state);
}

/** A run and where it stands; `undefined` if there is none, or if it has made no step. */
export async function findRun(id: string): Promise<{ run: RunEntry; state: StateEntry } | undefined> {
  const tx = (await open()).transaction(["runs", "states"]);
  const [run, state] = await Promise.all([tx.objectStore("runs").get(id), tx.objectStore("states").get(id), tx.done]);
  return run && state ? { run, state } : undefined;
}

/** All runs that can go on. */
export async function listRuns(): Promise<SavedFinetune[]> {
  const tx = (await open()).transaction(["runs", "states"]);
  const [runs, states] = await Promise.all([
    tx.objectStore("runs").getAll(),
    tx.objectStore("states").getAll(),
    tx.done,
  ]);
  const byId = new Map(states.map((state) => [state.id, state]));
  return runs.flatMap(({ task, eval_loss: _, ...run }) => {
    const state = byId.get(run.id);
    return state ? [{ ...run, method: methodOf(task.settings), step: state.step, saved_at: state.saved_at }] : [];
  });
}

/** Forgets a run. Returns whether there was one. */
export async function deleteRun(id: string): Promise<boolean> {
  const tx = (await open()).transaction(["runs", "states"], "readwrite");
  const isThere = (await tx.objectStore("runs").getKey(id)) !== undefined;
  await Promise.all([tx.objectStore("runs").delete(id), tx.objectStore("states").delete(id), tx.done]);
  return isThere;
}
