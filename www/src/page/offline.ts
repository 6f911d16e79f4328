/**
 * Registers the page's service worker. It keeps the page's own files, so that the page opens without a network, and
 * makes the page cross-origin isolated, so that the CPU engine may use threads.
 */

import { messageOf } from "../api/errors.js";
import { note } from "./dom.js";
import type { ToServiceWorker } from "./sw.js";

/** Files of this page's folder that were loaded before the service worker could keep them. */
function ownFiles(): string[] {
  const folder = new URL("./", location.href).href;
  const entries = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  // What a script fetched may be a model in this folder; models are kept in IndexedDB.
  const files = entries.filter((entry) => entry.name.startsWith(folder) && entry.initiatorType !== "fetch");
  return [...new Set([folder, ...files.map((entry) => entry.name)])];
}

/** Registers the service worker, where there are any: on https and localhost. The page also works without one. */
export async function startOffline(): Promise<void> {
  if (!isSecureContext || !("serviceWorker" in navigator)) return;
  try {
    const isFirst = !navigator.serviceWorker.controller;
    const registered = await navigator.serviceWorker.register("./sw.js");
    const coming = registered.installing;
    coming?.addEventListener("statechange", () => {
      // If the first installation fails, `ready` below waits for ever, so the failure is told here.
      if (coming.state === "redundant" && !registered.active)
        note("This page will not open offline: its files could not be kept.");
    });
    const registration = await navigator.serviceWorker.ready;
    // A page that is open cannot become isolated; the next visit is.
    if (isFirst && !crossOriginIsolated && navigator.hardwareConcurrency > 1) {
      note("Reload this page once and the CPU can use several threads.");
    }
    // Without a network no file can be refreshed.
    if (!navigator.onLine) return;
    const message: ToServiceWorker = { kind: "keep", urls: ownFiles() };
    registration.active?.postMessage(message);
  } catch (error) {
    note(`This page will not open offline: ${messageOf(error)}.`);
  }
}
