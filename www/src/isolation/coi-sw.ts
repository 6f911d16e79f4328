/**
 * A service worker that only adds the headers that make pages cross-origin isolated, so that the CPU engine may use
 * several threads on hosts that cannot send them. How to register it: docs/threads.md.
 *
 * `coi-sw.js?coep=credentialless` lets pages embed what other origins serve without Cross-Origin-Resource-Policy.
 */

import { type EmbedderPolicy, isolated } from "./isolate.js";
import { worker } from "./service-worker.js";

const asked = new URL(worker.location.href).searchParams.get("coep");
const policy: EmbedderPolicy = asked === "credentialless" ? asked : "require-corp";

worker.addEventListener("install", (event) => event.waitUntil(worker.skipWaiting()));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  // Only documents and workers need the headers.
  const isContext = request.mode === "navigate" || ["worker", "sharedworker"].includes(request.destination);
  if (isContext && new URL(request.url).origin === worker.location.origin) {
    event.respondWith(fetch(request).then((response) => isolated(response, policy)));
  }
});
