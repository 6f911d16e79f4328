/** Starts workers also where their script comes from another origin. Runs in the page's thread. */

import { makeError, messageOf } from "./errors.js";
import { trustedScript } from "./trusted.js";

/** By the address of a script: the address of one that imports it. There are a few in a page, and they stay. */
const importers = new Map<string, string>();

/**
 * The address at which the browser starts a worker from a script: the script's own, or that of a local one that imports
 * it, since a worker's script must be of the page's origin. A sandboxed frame is of no server's origin.
 */
export function startable(url: URL): string {
  if (url.origin === globalThis.origin) return url.href;
  let importer = importers.get(url.href);
  if (importer === undefined) {
    const script = `import ${JSON.stringify(url.href)};`;
    importer =
      globalThis.origin === "null"
        ? `data:text/javascript,${encodeURIComponent(script)}` // there, Chromium starts no module from a blob
        : URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    importers.set(url.href, importer);
  }
  return importer;
}

/**
 * Starts a worker.
 *
 * @throws `UnsupportedEnvironmentError` where the browser starts no module as a worker, or the page's policy forbids it
 */
export function startWorker(url: URL): Worker {
  // A browser that knows no such workers does not ask for the type, and would run the module as a script.
  let isAsked = false;
  const options: WorkerOptions = {
    name: "gpt2-web",
    get type(): WorkerType {
      isAsked = true;
      return "module";
    },
  };
  const worker = begin(url, options);
  if (isAsked) return worker;
  worker.terminate();
  throw makeError("unsupported_environment", "gpt2-web runs in newer browsers; missing here: modules as workers", {
    missing: ["modules as workers"],
  });
}

function begin(url: URL, options: WorkerOptions): Worker {
  try {
    return new Worker(trustedScript(startable(url)), options);
  } catch (error) {
    const remedy =
      "a policy (CSP) needs `worker-src 'self'` and, where it demands Trusted Types, `trusted-types gpt2-web`";
    throw makeError(
      "unsupported_environment",
      `${url.href}: no worker can be started (${messageOf(error)}); ${remedy}`,
      {
        missing: ["a worker"],
      },
    );
  }
}
