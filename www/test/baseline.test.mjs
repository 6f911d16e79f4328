// The oldest browsers that the package promises to run in: Chrome and Edge 114, Firefox 114, Safari 16.4. No source uses
// what one of them lacks, unless it looks first whether it is there.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SRC = fileURLToPath(new URL("../src", import.meta.url));
const STYLES = fileURLToPath(new URL("../styles", import.meta.url));

/** What is newer than the baseline. A use that the pattern `guarded` matches looks first whether it is there. */
const NEWER = [
  { name: "URL.canParse, URL.parse", use: /\bURL\.(?:canParse|parse)\b/ },
  { name: "Promise.withResolvers, Promise.try", use: /\bPromise\.(?:withResolvers|try)\b/ },
  { name: "AbortSignal.any", use: /\bAbortSignal\.any\b/ },
  { name: "Array.fromAsync", use: /\bArray\.fromAsync\b/ },
  { name: "grouping", use: /\b(?:Object|Map)\.groupBy\b/ },
  { name: "arrays that are copied", use: /\.(?:toSorted|toReversed|toSpliced)\(|\]\.with\(/ },
  {
    name: "iterator helpers",
    use: /(?<!\bObject)\.(?:keys|values|entries|matchAll)\([^()]*\)\s*\.(?!next\b|return\b)\w+\(/,
  },
  { name: "iterator helpers", use: /\bIterator\.(?:from|prototype|concat)\b/ },
  {
    name: "operations on sets",
    use: /\.(?:union|intersection|difference|symmetricDifference|isSubsetOf|isSupersetOf|isDisjointFrom)\(/,
  },
  { name: "buffers that move or grow", use: /\.(?:transfer|transferToFixedLength)\(|\bmaxByteLength\b|\.resizable\b/ },
  { name: "well-formed strings", use: /\.(?:isWellFormed|toWellFormed)\(/ },
  { name: "bytes as base64 or hex", use: /\b(?:fromBase64|toBase64|fromHex|toHex)\(/ },
  { name: "Intl.Segmenter", use: /\bIntl\.Segmenter\b/ },
  { name: "Atomics.waitAsync, Atomics.pause", use: /\bAtomics\.(?:waitAsync|pause)\b/ },
  { name: "Error.captureStackTrace", use: /\bError\.captureStackTrace\b/ },
  { name: "RegExp.escape, the flag v", use: /\bRegExp\.escape\b|\/[gimsuyd]*v[gimsuyd]*(?=[\s;,).])(?<=[^/\s]\/\w+)/ },
  { name: "`using`", use: /^\s*(?:await\s+)?using\s+\w+\s*=/m },
  { name: "import attributes", use: /\bfrom\s+"[^"]+"\s+(?:with|assert)\s*\{/ },
  { name: "streams as iterables", use: /\bReadableStream\.from\b|\bfor await \([^)]*\bof [\w.]*\bbody\)/ },
  { name: "idle callbacks", use: /\brequestIdleCallback\(/, guarded: /"requestIdleCallback" in / },
  { name: "the scheduler", use: /\bscheduler\.(?:yield|postTask)\b/ },
  { name: "popovers", use: /\.(?:showPopover|hidePopover|togglePopover)\(/ },
  { name: "visibility of elements", use: /\.checkVisibility\(/ },
  { name: "view transitions", use: /\.startViewTransition\(/ },
  // These are older, but not everywhere: pages that are not secure and opaque origins lack them, and Safari 16.4 lacks
  // `estimate`.
  { name: "navigator.gpu", use: /\bnavigator\.gpu\b/, guarded: /"gpu" in navigator|navigator\.gpu\?\./ },
  { name: "navigator.locks", use: /\bnavigator\.locks\b/, guarded: /navigator\.locks\?\./ },
  { name: "navigator.storage", use: /\bnavigator\.storage\b/, guarded: /navigator\.storage\?\./ },
  { name: "storage.estimate", use: /\.estimate\(\)/, guarded: /storage\?\.estimate\?\.\(\)/ },
  { name: "storage.persist", use: /\.persist\(\)/, guarded: /storage\?\.persist\b/ },
  {
    name: "BroadcastChannel",
    use: /\bnew BroadcastChannel\b/,
    guarded: /typeof BroadcastChannel|try \{\s*const channel = new BroadcastChannel/,
  },
  {
    name: "navigator.serviceWorker",
    use: /\bnavigator\.serviceWorker\b/,
    guarded: /"serviceWorker" in navigator|serviceWorker\?\./,
  },
  // In style sheets, those of the elements in TypeScript too.
  { name: "light-dark()", use: /\blight-dark\(/ },
  { name: ":has()", use: /:has\(/ },
  { name: "@scope, @starting-style", use: /@(?:scope|starting-style)\b/ },
  { name: "anchor positioning", use: /\banchor-name\b|\banchor-size\(|\bposition-(?:anchor|area|try)/ },
  { name: "field-sizing", use: /\bfield-sizing\b/ },
  { name: "interpolated sizes", use: /\binterpolate-size\b|\bcalc-size\(/ },
  { name: "colours relative to others", use: /\b(?:rgb|hsl|oklch|oklab|lab|lch)\(\s*from\b/ },
  { name: "scroll-driven animations", use: /\b(?:animation-timeline|scroll-timeline|view-timeline)\b/ },
  { name: "crypto.randomUUID", use: /\bcrypto\.randomUUID\b/, guarded: /crypto\.randomUUID\?\./ },
];

/** Source text without its comments. A text that holds `//` is a URL here, and keeps it. */
function code(text) {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[^:"'`\\])\/\/[^\n]*/g, "$1");
}

/** What of {@link NEWER} a source uses without looking first. */
function newerIn(text) {
  return NEWER.filter(({ use, guarded }) => use.test(text) && !guarded?.test(text)).map(({ name }) => name);
}

test("a use of something newer is found", () => {
  for (const [text, expected] of [
    ["if (!URL.canParse(text)) return;", ["URL.canParse, URL.parse"]],
    ["const sorted = list.toSorted();", ["arrays that are copied"]],
    ["for (const x of map.values().map((v) => v + 1)) {}", ["iterator helpers"]],
    ["const all = a.union(b);", ["operations on sets"]],
    ["using file = open();", ["`using`"]],
    ["for await (const chunk of response.body) {}", ["streams as iterables"]],
    ["await navigator.locks.request(name, run);", ["navigator.locks"]],
    ["await navigator.storage?.estimate();", ["storage.estimate"]],
    ["await navigator.storage?.estimate?.();", []],
    ['if ("gpu" in navigator) navigator.gpu.requestAdapter();', []],
    ["const names = Object.keys(map).map(String);", []],
    ["const names = [...map.values()].map(String);", []],
    ["// URL.canParse is newer", []],
    ["color: light-dark(#000, #fff);", ["light-dark()"]],
    ["main:has(.drawer) {}", [":has()"]],
    ["if (map.has(key)) return;", []],
  ]) {
    assert.deepEqual(newerIn(code(text)), expected, text);
  }
});

test("no source uses what the oldest supported browsers lack", () => {
  const found = [];
  let nFiles = 0;
  const entries = [SRC, STYLES].flatMap((from) => readdirSync(from, { recursive: true, withFileTypes: true }));
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    nFiles += 1;
    const file = path.join(entry.parentPath, entry.name);
    for (const name of newerIn(code(readFileSync(file, "utf8")))) found.push(`${path.relative(SRC, file)}: ${name}`);
  }
  assert.ok(nFiles > 40, `${nFiles} files`);
  assert.deepEqual(found, []);
});

test("the README names them", () => {
  const readme = readFileSync(path.join(SRC, "../../README.md"), "utf8");
  assert.match(readme, /Chrome and\s+Edge 114, Firefox 114, Safari 16\.4/);
});
