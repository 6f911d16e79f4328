/**
 * Registers the page's service worker. It keeps the page's own files, so that the page opens without a network, and
 * makes the page cross-origin isolated, so that the CPU engine may use threads.
 */

import { messageOf } from "../api/errors.js";
import { note } from "./dom.js";

/** Registers the service worker, where there are any: on https and localhost. The page also works without one. */
export async function startOffline(): Promise<void> {
  if (!isSecureContext || !("serviceWorker" in navigator)) return;
  const { serviceWorker } = navigator;
  const isFirst = !serviceWorker.controller;
  // A page that opens just when a new build takes over would get its next files from that one.
  if (!isFirst) serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  try {
    const registered = await serviceWorker.register("./sw.js", { updateViaCache: "none" });
    const coming = registered.installing;
    coming?.addEventListener("statechange", () => {
      // If the first installation fails, `ready` below waits for ever, so the failure is told here.
      if (coming.state === "redundant" && !registered.active)
        note("This page will not open offline: its files could not be kept.");
    });
    await serviceWorker.ready;
    // A page that is open cannot become isolated; the next visit is.
    if (isFirst && !crossOriginIsolated && navigator.hardwareConcurrency > 1) {
      note("Reload this page once and the CPU can use several threads.");
    }
  } catch (error) {
    note(`This page will not open offline: ${messageOf(error)}.`);
  }
}
