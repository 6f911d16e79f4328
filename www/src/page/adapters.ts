/** The adapters of the model in use: which there are, which one is on, and keeping them for later visits. */

import { messageOf } from "../api/errors.js";
import type { AdapterSource, Generator, LoraAdapterInfo } from "../api/index.js";
import { note } from "./dom.js";
import { useEngine } from "./engine.js";
import { forget, remember, remembered, rememberOn } from "./remembered.js";

let generator: Generator | null = null;
let known: LoraAdapterInfo[] = [];
const followers = new Set<() => void>();
let isFollowing = false;
/** Settles, never rejects, when those of earlier visits are there. */
let coming: Promise<void> = Promise.resolve();

/** Calls back now and whenever the adapters change. */
export function followAdapters(changed: () => void): void {
  followers.add(changed);
  changed();
  if (isFollowing) return;
  isFollowing = true;
  useEngine({ attach, detach: () => show(null, []) });
}

function attach(loaded: Generator): void {
  coming = bringBack(loaded);
}

/** Resolves when the adapters of earlier visits are there. */
export function adaptersBack(): Promise<void> {
  return coming;
}

/** Those of the model in use. */
export function adapters(): readonly LoraAdapterInfo[] {
  return known;
}

/** The name of the one that is on, or null. */
export function adapterOn(): string | null {
  return known.find(({ active_weight }) => active_weight !== 0)?.name ?? null;
}

function show(of: Generator | null, list: LoraAdapterInfo[]): void {
  [generator, known] = [of, list];
  for (const changed of followers) changed();
}

async function refresh(of: Generator): Promise<void> {
  const list = await of.listAdapters();
  if (generator === of) show(of, list);
}

/** Loads what earlier visits kept for this model. One that cannot be loaded is told and stays kept. */
async function bringBack(of: Generator): Promise<void> {
  show(of, []);
  try {
    for (const { model, name, source, is_on } of await remembered()) {
      if (model !== of.info.model || generator !== of) continue;
      try {
        await of.loadAdapter(typeof source === "string" ? source : { files: source }, { name });
        if (is_on) await of.setAdapter(name);
      } catch (error) {
        if (generator === of) note(`The adapter ${name} is not loaded: ${messageOf(error)}.`);
      }
    }
    await refresh(of);
  } catch (error) {
    if (generator === of) note(`Adapters of earlier visits cannot be read: ${messageOf(error)}.`);
  }
}

function inUse(): Generator {
  if (!generator) throw new Error("no model is loaded");
  return generator;
}

/** Writes with this adapter from now on, or with none. */
export async function turnOn(name: string | null): Promise<void> {
  const of = inUse();
  await of.setAdapter(name);
  await refresh(of);
  await kept(() => rememberOn(of.info.model, name));
}

/** Loads an adapter, and keeps it for later visits. Returns its name. */
export async function addAdapter(source: AdapterSource, name?: string): Promise<string> {
  const of = inUse();
  const info = await of.loadAdapter(source, name === undefined ? {} : { name });
  await keepAdapter(info.name, typeof source === "object" && "files" in source ? blobs(source.files) : String(source));
  return info.name;
}

/** Keeps an adapter that is loaded for later visits. */
export async function keepAdapter(name: string, source: string | Record<string, Blob>): Promise<void> {
  const of = inUse();
  const savedAt = new Date().toISOString();
  await kept(() => remember({ model: of.info.model, name, source, is_on: adapterOn() === name, saved_at: savedAt }));
  await refresh(of);
}

/** Unloads an adapter and forgets it. */
export async function removeAdapter(name: string): Promise<void> {
  const of = inUse();
  if (adapterOn() === name) await of.setAdapter(null);
  await of.unloadAdapter(name);
  await kept(() => forget(of.info.model, name));
  await refresh(of);
}

/** The files of an adapter that is kept; null where only its address is. */
export async function filesOf(name: string): Promise<Record<string, Blob> | null> {
  const { model } = inUse().info;
  const found = (await remembered()).find((one) => one.model === model && one.name === name);
  return found && typeof found.source !== "string" ? found.source : null;
}

function blobs(files: Iterable<File> | Record<string, Blob>): Record<string, Blob> {
  return Symbol.iterator in files ? Object.fromEntries([...files].map((file) => [file.name, file])) : files;
}

/** What a browser does not keep works until the page is left. */
async function kept(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    note(`Adapters are not kept for the next visit: ${messageOf(error)}.`);
  }
}
