/**
 * Registers the service worker that keeps the page's own files, so that it opens without a network, and that isolates it,
 * so that the CPU engine may use threads.
 */
import { note } from "./dom.js";
import type { ToServiceWorker } from "./sw.js";

/** Files of this page's folder that are already here, which the worker may have come too late to see. */
function ownFiles(): string[] {
  const folder = new URL("./", location.href).href;
  const entries = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  // What was fetched by script can be a model somebody put in this folder; models are kept elsewhere.
  const files = entries.filter((entry) => entry.name.startsWith(folder) && entry.initiatorType !== "fetch");
  return [...new Set([folder, ...files.map((entry) => entry.name)])];
}

/** Where service workers exist (https and localhost). A failure is a remark, not an error: the page works without. */
export async function startOffline(): Promise<void> {
  if (!isSecureContext || !("serviceWorker" in navigator)) return;
  try {
    const isFirst = !navigator.serviceWorker.controller;
    const registered = await navigator.serviceWorker.register("./sw.js");
    const coming = registered.installing;
    coming?.addEventListener("statechange", () => {
      // `ready` below waits for ever where the first install fails, so that is said here.
      if (coming.state === "redundant" && !registered.active)
        note("This page will not open offline: its files could not be kept.");
    });
    const registration = await navigator.serviceWorker.ready;
    // from the next visit on, since a page that is open cannot become isolated
    if (isFirst && !crossOriginIsolated && navigator.hardwareConcurrency > 1) {
      note("Reload this page once and the CPU can use several threads.");
    }
    // Without a network there is nothing to bring up to date.
    if (!navigator.onLine) return;
    const message: ToServiceWorker = { kind: "keep", urls: ownFiles() };
    registration.active?.postMessage(message);
  } catch (error) {
    note(`This page will not open offline: ${error instanceof Error ? error.message : String(error)}.`);
  }
}
