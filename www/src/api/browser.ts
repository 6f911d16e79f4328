/** Whether this browser can run the package at all; the oldest that can are in the README. */

import { type Gpt2Error, makeError } from "./errors.js";

/** A module whose only function has an instruction of WebAssembly SIMD. */
// biome-ignore format: bytes, by section
const SIMD_MODULE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, // "\0asm", version 1
  1, 5, 1, 96, 0, 1, 123, // a type: nothing -> v128
  3, 2, 1, 0, // a function of it
  10, 8, 1, 6, 0, 65, 0, 253, 15, 11, // i32.const 0, i8x16.splat
);

/** What the package cannot do without and this browser lacks, for people. */
function lacking(): string[] {
  const found: string[] = [];
  if (typeof location === "undefined") found.push("page"); // a server, which may have some of the rest
  if (typeof WebAssembly === "undefined") found.push("WebAssembly");
  else if (!WebAssembly.validate(SIMD_MODULE)) found.push("WebAssembly SIMD");
  if (typeof BigInt64Array === "undefined") found.push("BigInt64Array");
  if (typeof Worker === "undefined") found.push("Worker");
  if (typeof ReadableStream === "undefined") found.push("ReadableStream");
  return found;
}

function unsupported(found: string[]): Gpt2Error {
  return makeError("unsupported_browser", `this browser has no ${found.join(", no ")}`, { lacking: found });
}

/** @throws {@link UnsupportedBrowserError} */
export function checkBrowser(): void {
  const found = lacking();
  if (found.length > 0) throw unsupported(found);
}

/**
 * Why a worker may have failed: a browser without module workers takes the package's for a script of the old kind.
 * This starts a worker to find out, so it is asked only after a failure. `script`: where the package's worker is.
 */
export function explainWorker(message: string, script: string | undefined): Gpt2Error {
  let isRead = false;
  try {
    const options = {
      get type(): WorkerType {
        isRead = true;
        return "module";
      },
    };
    new Worker("data:text/javascript,", options).terminate();
  } catch {
    isRead = true; // it is the policy of the page that refuses this worker, which says nothing of the browser
  }
  if (!isRead) return unsupported(["module workers"]);
  const served = script === undefined ? "" : ` (is ${script} served? The option \`worker\` takes another one)`;
  return makeError("internal", `the worker failed: ${message || `its script could not be loaded${served}`}`);
}
