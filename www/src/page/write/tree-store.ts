/**
 * Keeps the text's tree for the next visit, in IndexedDB: it may be larger than local storage holds. When the page is
 * left before it is written there, it goes into local storage, which is written at once.
 */

import { openDB } from "idb";
import { messageOf } from "../../api/errors.js";
import { note } from "../dom.js";
import { TextTree, type TreeJson } from "./tree.js";

const NAME = "gpt2-web-page";
const STORE = "texts";
const KEY = "current";
const DELAY_MS = 400;
/** Where the newest tree is in local storage, if it had no time to be stored otherwise. */
const UNSAVED = "gpt2-web.unsaved-text";

const open = () =>
  openDB<{ texts: { key: string; value: TreeJson } }>(NAME, 1, { upgrade: (db) => void db.createObjectStore(STORE) });

let told = false;

function failed(error: unknown): void {
  if (told) return;
  told = true;
  note(`The text is not kept for the next visit: ${messageOf(error)}.`);
}

/** What was left unsaved by the visit before, or null. */
function readUnsaved(): TextTree | null {
  const json = localStorage.getItem(UNSAVED);
  return json === null ? null : TextTree.fromJson(JSON.parse(json));
}

/** The tree of the last visit, or null. */
export async function readTree(): Promise<TextTree | null> {
  try {
    const unsaved = readUnsaved();
    if (unsaved) return unsaved; // the first change stores it
    const db = await open();
    const kept = await db.get(STORE, KEY);
    db.close();
    return kept ? TextTree.fromJson(kept) : null;
  } catch (error) {
    failed(error);
    return null;
  }
}

let timer: ReturnType<typeof setTimeout> | undefined;
let unsaved: (() => TreeJson) | null = null;

/** Writes what is not kept yet. */
async function save(): Promise<void> {
  clearTimeout(timer);
  timer = undefined;
  const json = unsaved?.();
  if (!json) return;
  const asked = unsaved;
  try {
    const db = await open();
    await db.put(STORE, json, KEY);
    db.close();
    if (unsaved !== asked) return; // it has changed meanwhile
    unsaved = null;
    localStorage.removeItem(UNSAVED);
  } catch (error) {
    failed(error);
  }
}

/** Keeps a tree soon, and at the latest when the page is left. */
export function keepTree(json: () => TreeJson): void {
  unsaved = json;
  timer ??= setTimeout(() => void save(), DELAY_MS);
}

function leave(): void {
  if (!unsaved) return;
  try {
    // A page that goes away may not live until IndexedDB has written.
    localStorage.setItem(UNSAVED, JSON.stringify(unsaved()));
  } catch {
    // Too large for local storage, or forbidden: what follows may still be in time.
  }
  void save();
}

/** Wires the end of a visit. */
export function startKeeping(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") leave();
  });
  addEventListener("pagehide", leave);
}
