/** Adapters that are kept for later visits, in IndexedDB, each with the model that it belongs to. */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";

/** An adapter that is kept. */
export interface Remembered {
  /** The model, as the generator names it. */
  model: string;
  name: string;
  /** Its address, or PEFT's files. */
  source: string | Record<string, Blob>;
  /** Whether texts are written with it. */
  is_on: boolean;
  /** ISO 8601. */
  saved_at: string;
}

interface Schema extends DBSchema {
  adapters: { key: [model: string, name: string]; value: Remembered };
}

async function using<T>(act: (db: IDBPDatabase<Schema>) => Promise<T>): Promise<T> {
  const db = await openDB<Schema>("gpt2-web-page-adapters", 1, {
    upgrade: (db) => void db.createObjectStore("adapters", { keyPath: ["model", "name"] }),
  });
  try {
    return await act(db);
  } finally {
    db.close();
  }
}

/** All that are kept, of all models, the oldest first. */
export async function remembered(): Promise<Remembered[]> {
  const all = await using((db) => db.getAll("adapters"));
  return all.sort((a, b) => a.saved_at.localeCompare(b.saved_at));
}

/** Keeps one, in the place of one of the same name. */
export async function remember(adapter: Remembered): Promise<void> {
  await using((db) => db.put("adapters", adapter));
}

/** Deletes one. */
export async function forget(model: string, name: string): Promise<void> {
  await using((db) => db.delete("adapters", [model, name]));
}

/** Keeps which of a model's adapters is on. */
export async function rememberOn(model: string, name: string | null): Promise<void> {
  await using(async (db) => {
    const tx = db.transaction("adapters", "readwrite");
    for (const adapter of await tx.store.getAll()) {
      const isOn = adapter.name === name;
      if (adapter.model === model && adapter.is_on !== isOn) await tx.store.put({ ...adapter, is_on: isOn });
    }
    await tx.done;
  });
}
