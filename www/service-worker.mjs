// Bundles the page's service worker, which knows the page's files by their hashes: one service worker for each build.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const SOURCE = fileURLToPath(new URL("src/page/sw.ts", import.meta.url));
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/**
 * Writes `folder/sw.js` for the files of that folder, `names` being paths from there; those of them that are `optional`
 * are kept when they are used. It lies beside index.html, since the folder of a service worker is its scope.
 * → the build's name
 */
export async function writeServiceWorker(folder, names, optional = []) {
  const hashes = [...names].sort().map((name) => [name, sha256(readFileSync(path.join(folder, name)))]);
  // the service worker's own source is a part of the build too
  const name = sha256(JSON.stringify([hashes, readFileSync(SOURCE, "utf8")])).slice(0, 16);
  await build({
    entryPoints: [SOURCE],
    outfile: path.join(folder, "sw.js"),
    bundle: true,
    format: "iife", // a classic script: Firefox runs no others
    target: "es2022",
    minify: true,
    logLevel: "warning",
    define: { PAGE_BUILD: JSON.stringify({ name, files: Object.fromEntries(hashes), optional }) },
  });
  return name;
}
