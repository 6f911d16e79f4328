/**
 * A service worker that does one thing: the headers that make pages cross-origin isolated, so that the CPU engine may
 * use several threads on hosts that cannot send them. How to register it: docs/threads.md.
 *
 * `coi-sw.js?coep=credentialless` lets pages embed what other origins serve without Cross-Origin-Resource-Policy.
 */

import { isolated, type EmbedderPolicy } from "./isolate.js";

// The DOM library that this package is checked with has no names for these; this is the part that is used.
interface ExtendableEvent extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface Scope {
  readonly location: Location;
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", act: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", act: (event: FetchEvent) => void): void;
}
const worker = self as unknown as Scope;

const asked = new URL(worker.location.href).searchParams.get("coep");
const policy: EmbedderPolicy = asked === "credentialless" ? asked : "require-corp";

worker.addEventListener("install", (event) => event.waitUntil(worker.skipWaiting()));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  // only what documents and workers are: whatever else is fetched needs no such header, and passes untouched
  const is_context = request.mode === "navigate" || ["worker", "sharedworker"].includes(request.destination);
  if (is_context && new URL(request.url).origin === worker.location.origin) {
    event.respondWith(fetch(request).then((response) => isolated(response, policy)));
  }
});
