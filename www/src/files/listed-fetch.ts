/** Fetches the files of a model that are each somewhere else, as a bundler lays them. Runs in the worker. */

import type { Fetch } from "./request.js";

/** A `fetch` that finds a file of a model, asked for beside `base`, where `files` says. There are no others. */
export function listedFetch(base: string, files: Readonly<Record<string, string>>, fetch: Fetch): Fetch {
  const urls = new Map(Object.entries(files).map(([name, url]) => [new URL(name, base).href, url]));
  return async (asked, init) => {
    const url = urls.get(asked);
    if (url === undefined) return new Response(null, { status: 404 });
    return url.startsWith("data:") ? inlined(url) : fetch(url, init);
  };
}

/** What a `data:` URL holds. Bundlers make them of small files, and a strict policy (CSP) lets nobody fetch them. */
function inlined(url: string): Response {
  const comma = url.indexOf(",");
  const body = url.slice(comma + 1);
  const text = url.slice(0, comma).endsWith(";base64") ? atob(body) : decodeURIComponent(body);
  // Either way each character is a byte of what bundlers inline here: JSON in ASCII.
  return new Response(text, { headers: { "Content-Length": String(text.length), ETag: JSON.stringify(text.length) } });
}
