/** What a visit gets while a newer build of the page is fetched: a document that brings it in and then opens it. */

/** What that document says to the service worker that waits. */
export type ToServiceWorker = { kind: "take-over" };

/** How long a visit waits for the network, in milliseconds, before the build that is kept opens. */
export const TIMEOUT_MS = 3000;

/** Runs in the document, as text, so it uses nothing from outside itself. */
async function bringIn(timeoutMs: number): Promise<void> {
  const open = (): void => location.reload();
  const { serviceWorker } = navigator; // there is one: it served this document
  setTimeout(open, timeoutMs);
  serviceWorker.addEventListener("controllerchange", open);
  try {
    const registration = await serviceWorker.getRegistration();
    await registration?.update();
    const coming = registration?.installing ?? registration?.waiting;
    if (!coming) return open();
    const look = (): void => {
      if (coming.state === "installed") coming.postMessage({ kind: "take-over" } satisfies ToServiceWorker);
      if (coming.state === "redundant") open();
    };
    coming.addEventListener("statechange", look);
    look();
  } catch {
    open(); // the network is gone again
  }
}

/** A new response of that document. It opens the page when the newer build serves it, or when the time is over. */
export function handOver(): Response {
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>GPT-2 in your browser</title>
<p role="status">The new version of this page is on its way …</p>
<script>(${bringIn})(${TIMEOUT_MS});</script>
`;
  return new Response(html, { headers: { "Content-Type": "text/html; charset=utf-8" } });
}
