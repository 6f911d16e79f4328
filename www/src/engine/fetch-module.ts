/** Fetches one of the package's WebAssembly modules. Runs in the worker. */

import { makeError } from "../api/errors.js";
import type { LearnFile, WorkerFile } from "../api/messages.js";

/** Set by build.mjs: the SHA-384 of each module, as subresource integrity has it. */
declare const MODULE_INTEGRITY: Readonly<Record<string, string>>;

/**
 * A module's bytes, on their way: those that this build was made with.
 *
 * @throws {@link NetworkError}, {@link IntegrityError}, or the platform's `AbortError`.
 */
export async function fetchModule(
  file: WorkerFile | LearnFile,
  url: string,
  signal: AbortSignal | null,
): Promise<Response> {
  const expected = `${url}: expected the module ${file} of this package`;
  const remedy = "`wasm_url` says where it is, if not there";
  const integrity = MODULE_INTEGRITY[file] ?? "";
  const ask = (init: RequestInit) => fetch(url, { signal, ...init });
  const response = await ask({ integrity }).catch(async (error: unknown) => {
    if (signal?.aborted) throw error;
    // The platform does not tell a file with another content from a network that fails.
    const again = await ask({ method: "HEAD" }).catch(() => undefined);
    if (again?.ok && !isPage(again)) {
      const found = "another content (is it of another version?)";
      throw makeError("integrity", `${expected}, found ${found}`, { url, expected: integrity, found });
    }
    if (again) return again;
    throw makeError("network", `${expected}, and the request failed (${(error as Error).message}); ${remedy}`, { url });
  });
  if (response.ok && !isPage(response)) return response;
  await response.body?.cancel();
  const { status } = response;
  const found = isPage(response) ? "an HTML page" : `HTTP status ${status}`;
  throw makeError("network", `${expected}, found ${found}; ${remedy}`, { url, status });
}

/** Whether the answer is what some hosts send for every path. */
function isPage({ headers }: Response): boolean {
  return headers.get("content-type")?.includes("text/html") ?? false;
}
