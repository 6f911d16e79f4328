/**
 * The page's service worker. With it the page opens without a network, and is cross-origin isolated, which the CPU
 * engine's threads need, also on hosts that do not send the headers for it.
 *
 * A service worker belongs to one build of the page, whose files it knows by their hashes. It is installed when its
 * cache holds all that this visitor needs of them, and answers with nothing else, so a page never mixes the files of
 * two builds. A deploy is a new service worker: it fetches what has changed and then takes the place of the old one, as
 * soon as no page is open that the old one serves. Models are not kept here: the library keeps them in IndexedDB.
 */

import { isolated } from "../isolation/isolate.js";
import { type FetchEvent, worker } from "../isolation/service-worker.js";
import { handOver, TIMEOUT_MS, type ToServiceWorker } from "./hand-over.js";

/**
 * The build: its name, each file's SHA-256 by its path from the page's folder, and those of the files that only some
 * visitors need. Written by the bundler.
 */
declare const PAGE_BUILD: { name: string; files: Record<string, string>; optional: string[] };

const CACHE_PREFIX = "gpt2-web-page-";
const CACHE = CACHE_PREFIX + PAGE_BUILD.name;
/** How long a newer build that could not be brought in is not tried again, in milliseconds: longer than a visit. */
const PAUSE_MS = 10_000;

/** When the last visit was handed over; see `performance.now`. */
let handedOverAt = Number.NEGATIVE_INFINITY;

/** The address of a file of this build. The start page is the folder: some hosts do not answer to `index.html`. */
function addressOf(name: string): string {
  return new URL(name === "index.html" ? "./" : name, worker.registration.scope).href;
}

/** The file of this build that an address names, without `?prompt=…`: that is the same page. */
function fileAt(address: string): string | undefined {
  const { scope } = worker.registration;
  const url = new URL(address);
  url.search = url.hash = "";
  if (!url.href.startsWith(scope)) return undefined;
  const name = url.href.slice(scope.length) || "index.html";
  return Object.hasOwn(PAGE_BUILD.files, name) ? name : undefined;
}

async function hashOf(bytes: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The file as an earlier build, or an installation that broke off, kept it; undefined where it differs. */
async function keptBefore(name: string): Promise<Response | undefined> {
  for (const cache of await caches.keys()) {
    if (!cache.startsWith(CACHE_PREFIX)) continue;
    const kept = await (await caches.open(cache)).match(addressOf(name));
    if (kept && (await hashOf(await kept.clone().arrayBuffer())) === PAGE_BUILD.files[name]) return kept;
  }
  return undefined;
}

/** Whether this visitor needs a file: an optional one is kept from when it was first used. */
async function isNeeded(name: string): Promise<boolean> {
  if (!PAGE_BUILD.optional.includes(name)) return true;
  return (await caches.match(addressOf(name))) !== undefined;
}

/** Fetches a file. Rejects where it is not the file of this build, as in the midst of a deploy. */
async function fetched(name: string): Promise<Response> {
  const response = await fetch(addressOf(name), { cache: "no-cache" });
  if (response.status !== 200) throw new Error(`${name}: expected HTTP 200, found ${response.status}`);
  const bytes = await response.arrayBuffer();
  const found = await hashOf(bytes);
  const expected = PAGE_BUILD.files[name];
  if (found !== expected) throw new Error(`${name}: expected the SHA-256 ${expected}, found ${found}`);
  // A copy: a response that was redirected may not answer a visit.
  return new Response(bytes, { headers: response.headers });
}

/** Puts a file into this build's cache. → the file */
async function keep(name: string): Promise<Response> {
  const response = (await keptBefore(name)) ?? (await fetched(name));
  await (await caches.open(CACHE)).put(addressOf(name), response.clone());
  return response;
}

/** A file of this build. One that the browser has dropped is fetched again. */
async function fromBuild(name: string): Promise<Response> {
  return (await (await caches.open(CACHE)).match(addressOf(name))) ?? keep(name);
}

/** Whether this visit leaves no other page open that this service worker serves. */
async function isOnlyPage({ cache }: Request): Promise<boolean> {
  const pages = await worker.clients.matchAll({ type: "window" });
  const isReload = cache === "no-cache" || cache === "reload"; // the page that is reloaded is still there
  return pages.length <= (isReload ? 1 : 0);
}

/** Whether the server has another build. False where the network does not tell in time. */
async function isReplaced(): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(worker.location.href, { cache: "no-cache", signal });
    return response.status === 200 && !(await response.text()).includes(PAGE_BUILD.name);
  } catch {
    return false; // without a network, what is kept is the newest that can be had
  }
}

/** Answers a visit: from this build, or, where there is a newer one that may take over, with what brings that in. */
async function visit(request: Request, name: string): Promise<Response> {
  const mayHandOver = performance.now() - handedOverAt > PAUSE_MS && (await isOnlyPage(request));
  if (!mayHandOver || !(await isReplaced())) return fromBuild(name);
  handedOverAt = performance.now();
  return handOver();
}

function answer({ request }: FetchEvent): Promise<Response> | undefined {
  const isVisit = request.mode === "navigate";
  const isWorker = request.destination === "worker";
  const name = request.headers.has("range") ? undefined : fileAt(request.url);
  if (name === undefined) {
    const isOurs = request.url.startsWith(worker.location.origin);
    return (isVisit || isWorker) && isOurs ? fetch(request).then((response) => isolated(response)) : undefined;
  }
  const response = isVisit ? visit(request, name) : fromBuild(name);
  // Documents and workers are isolated; nothing else needs those headers.
  return isVisit || isWorker ? response.then((it) => isolated(it)) : response;
}

// Pages that are open keep the service worker that they began with, so this one neither skips waiting nor claims them.
worker.addEventListener("install", (event) => {
  const take = async (name: string): Promise<void> => {
    if (await isNeeded(name)) await keep(name);
  };
  event.waitUntil(Promise.all(Object.keys(PAGE_BUILD.files).map(take)));
});

worker.addEventListener("activate", (event) => {
  const tidy = async (): Promise<void> => {
    const old = (await caches.keys()).filter((name) => name.startsWith(CACHE_PREFIX) && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
  };
  event.waitUntil(tidy());
});

worker.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const response = answer(event);
  if (response) event.respondWith(response);
});

worker.addEventListener("message", (event) => {
  const message = event.data as ToServiceWorker;
  if (message.kind !== "take-over")
    throw new Error(`the service worker was sent an unknown message: ${JSON.stringify(message)}`);
  event.waitUntil(worker.skipWaiting());
});
