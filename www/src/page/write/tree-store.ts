/** Keeps the text's tree for the next visit, in IndexedDB: it may be larger than local storage holds. */

import { openDB } from "idb";
import { messageOf } from "../../api/errors.js";
import { note } from "../dom.js";
import { TextTree, type TreeJson } from "./tree.js";

const NAME = "gpt2-web-page";
const STORE = "texts";
const KEY = "current";
const DELAY_MS = 400;

const open = () =>
  openDB<{ texts: { key: string; value: TreeJson } }>(NAME, 1, { upgrade: (db) => void db.createObjectStore(STORE) });

let told = false;

function failed(error: unknown): void {
  if (told) return;
  told = true;
  note(`The text is not kept for the next visit: ${messageOf(error)}.`);
}

/** The tree of the last visit, or null. */
export async function readTree(): Promise<TextTree | null> {
  try {
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
  const json = unsaved?.();
  unsaved = null;
  if (!json) return;
  try {
    const db = await open();
    await db.put(STORE, json, KEY);
    db.close();
  } catch (error) {
    failed(error);
  }
}

/** Keeps a tree soon, and at the latest when the page is left. */
export function keepTree(json: () => TreeJson): void {
  if (!unsaved) timer = setTimeout(() => void save(), DELAY_MS);
  unsaved = json;
}

/** Wires the end of a visit. */
export function startKeeping(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") void save();
  });
  addEventListener("pagehide", () => void save());
}
