/** What the package needs of the place that it runs in. */

import { simd } from "wasm-feature-detect";
import { makeError } from "./errors.js";

/**
 * Refuses to go on where something is missing: on a server, and in browsers from before 2023.
 *
 * @throws {@link UnsupportedEnvironmentError}
 */
export async function checkEnvironment(): Promise<void> {
  const needs: [string, boolean][] = [
    ["a page (`location`)", typeof location === "object"],
    ["workers (`Worker`)", typeof Worker === "function"],
    ["streams (`ReadableStream`)", typeof ReadableStream === "function"],
    ["64-bit numbers (`BigInt64Array`)", typeof BigInt64Array === "function"],
    ["WebAssembly", typeof WebAssembly === "object"],
    ["SIMD in WebAssembly", typeof WebAssembly === "object" && (await simd())],
  ];
  const missing = needs.filter(([, isThere]) => !isThere).map(([name]) => name);
  if (missing.length === 0) return;
  throw makeError("unsupported_environment", `gpt2-web runs in browsers; missing here: ${missing.join(", ")}`, {
    missing,
  });
}
