/**
 * The page's service worker. With it the page opens without a network, and is cross-origin isolated, which the CPU
 * engine's threads need, also on hosts that do not send the headers for it.
 *
 * The network is asked first, so that a new deploy is seen at once; the cache answers where the network does not. Only
 * the page's own folder is kept: pages, scripts, styles, WebAssembly, and what `dist/offline.json` lists (which
 * includes the demo model). Other models are not: they are kept in IndexedDB by the library.
 */

import { isolated } from "../isolation/isolate.js";
import { type FetchEvent, worker } from "../isolation/service-worker.js";

/** What the page says to this worker. */
export type ToServiceWorker = { kind: "keep"; urls: string[] };

/** The number is raised when what is kept, or how, changes; caches with other numbers are deleted. */
const CACHE_PREFIX = "gpt2-web-page-";
const CACHE = `${CACHE_PREFIX}1`;
const LIST = "dist/offline.json";

/** The key of a URL in the cache, without `?prompt=…`: that is the same page, and the prompt is private. */
function keyOf(url: string): string {
  const key = new URL(url);
  key.search = "";
  key.hash = "";
  return key.href;
}

function ours(url: string): boolean {
  return url.startsWith(worker.registration.scope);
}

/** Whether a response is a whole file of ours, not an error, a part, or a redirect to elsewhere. */
function whole(response: Response): boolean {
  return response.status === 200 && response.type === "basic" && !response.redirected;
}

/** The files to keep, as absolute URLs: the folder itself and what the list names. */
async function listed(): Promise<string[]> {
  const scope = worker.registration.scope;
  const response = await fetch(new URL(LIST, scope), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${LIST}: HTTP ${response.status}`);
  const names: unknown = await response.json();
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
    throw new Error(`${LIST}: expected an array of relative URLs`);
  }
  return [scope, ...names.map((name: string) => new URL(name, scope).href)].filter(ours);
}

/** Fetches files anew and keeps them. With `no-cache` only the files that have changed on the server are sent. */
async function refresh(urls: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  await Promise.all(
    [...new Set(urls.map(keyOf))].map(async (url) => {
      const response = await fetch(url, { cache: "no-cache" });
      if (!whole(response)) throw new Error(`${url}: HTTP ${response.status}`);
      await cache.put(url, response);
    }),
  );
}

/** Whether a file that is fetched is a part of the page. What a script fetches may be a user's model. */
async function belongs(request: Request, cache: Cache): Promise<boolean> {
  if (request.destination !== "" || new URL(request.url).pathname.endsWith(".wasm")) return true;
  return (await cache.match(keyOf(request.url))) !== undefined;
}

async function answer(event: FetchEvent): Promise<Response> {
  const { request } = event;
  const key = keyOf(request.url);
  const cache = await caches.open(CACHE);
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = await cache.match(key);
    if (kept) return kept;
    throw error;
  }
  // What is kept is better than the error of a server in trouble.
  if (response.status >= 500) return (await cache.match(key)) ?? response;
  if (whole(response)) {
    const copy = response.clone();
    event.waitUntil(
      belongs(request, cache).then(async (kept) => {
        if (kept) await cache.put(key, copy);
        else await copy.body?.cancel();
      }),
    );
  }
  return response;
}

/** Documents and workers are isolated; nothing else needs those headers. */
function isolatedPart({ mode, destination }: Request): (response: Response) => Response {
  const isContext = mode === "navigate" || destination === "worker";
  return (response) => (isContext ? isolated(response) : response);
}

worker.addEventListener("install", (event) => {
  event.waitUntil(
    listed()
      .then(refresh)
      .then(() => worker.skipWaiting()),
  );
});

worker.addEventListener("activate", (event) => {
  const tidy = async (): Promise<void> => {
    const names = await caches.keys();
    await Promise.all(
      names.filter((name) => name.startsWith(CACHE_PREFIX) && name !== CACHE).map((name) => caches.delete(name)),
    );
    await worker.clients.claim();
  };
  event.waitUntil(tidy());
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && ours(request.url) && !request.headers.has("range"))
    event.respondWith(answer(event).then(isolatedPart(request)));
});

worker.addEventListener("message", (event) => {
  const message = event.data as ToServiceWorker;
  switch (message.kind) {
    case "keep":
      // The listed files are fetched each time, so that all files are of the same deploy.
      event.waitUntil(listed().then((files) => refresh([...files, ...message.urls.filter(ours)])));
      break;
    default:
      throw new Error(`the service worker was sent an unknown message: ${JSON.stringify(message)}`);
  }
});
