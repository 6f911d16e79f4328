/** Fetches one of the package's WebAssembly modules. Runs in the worker. */

import { makeError } from "../api/errors.js";

/** The module's bytes, on their way. @throws NetworkError, or the platform's `AbortError`. */
export async function fetchModule(url: string, signal: AbortSignal | null): Promise<Response> {
  const expected = `${url}: expected a WebAssembly module of this package`;
  const remedy = "is this file served there? Else `wasm_url` says where it is";
  const response = await fetch(url, { signal }).catch((error: unknown) => {
    if (signal?.aborted) throw error;
    throw makeError("network", `${expected}, and the request failed (${(error as Error).message}); ${remedy}`, { url });
  });
  const { status, headers } = response;
  const isPage = headers.get("content-type")?.includes("text/html"); // what some hosts send for every path
  if (response.ok && !isPage) return response;
  await response.body?.cancel();
  const found = isPage ? "an HTML page" : `HTTP status ${status}`;
  throw makeError("network", `${expected}, found ${found}; ${remedy}`, { url, status });
}
