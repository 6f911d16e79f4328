// The order of the sources: which folder may import from which, and that no files import each other in a circle.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SRC = fileURLToPath(new URL("../src/", import.meta.url));

/** What both threads know of each other. The rest of `api` runs in the page's thread alone. */
const BASE = ["api/types", "api/lora-types", "api/errors", "api/messages", "api/version", "api/trusted"];

/** From the bottom up: each room, and the rooms below that it may import from. */
const ROOMS = {
  base: [],
  wasm: [],
  isolation: [],
  engine: ["base"],
  files: ["base"],
  worker: ["base", "wasm", "engine", "files"],
  cli: ["base", "wasm", "files", "worker"],
  api: ["base", "files"],
  learn: ["base", "wasm", "engine", "files", "api"],
  adapters: ["base", "api"],
  elements: ["base", "api"],
  page: ["base", "isolation", "engine", "api", "learn", "elements"],
};

/** The room of a file, given as its path from `src` without its ending. */
function roomOf(file) {
  if (BASE.includes(file)) return "base";
  return file.startsWith("../wasm/") ? "wasm" : file.split("/")[0];
}

/** What each file imports, types included: Map of file to files. */
function readImports() {
  const imports = new Map();
  for (const entry of readdirSync(SRC, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const folder = path.relative(SRC, entry.parentPath);
    const text = readFileSync(path.join(entry.parentPath, entry.name), "utf8");
    const targets = [...text.matchAll(/^(?:import|export)\s(?:[^"';]*\sfrom\s)?"(\.[^"]+)\.js";$/gm)];
    // the page fetches a view's script when it is opened
    targets.push(...text.matchAll(/\bimport\("(\.[^"]+)\.js"\)/g));
    // the worker imports wasm-bindgen's script for the full build, from the address that it is told
    const unseen = /\bimport\((?!"\.[^"]+\.js"\)|\/\* webpackIgnore: true \*\/ \/\* @vite-ignore \*\/ url\))/g;
    assert.equal(
      [...text.matchAll(unseen)].length,
      0,
      `${folder}/${entry.name}: an import that this test does not see`,
    );
    const file = path.join(folder, entry.name.replace(/\.ts$/, ""));
    imports.set(
      file,
      targets.map(([, target]) => path.join(folder, target)),
    );
  }
  return imports;
}

/** A circle as a list of files that begins and ends with the same one, or null. */
function findCircle(imports) {
  const done = new Set();
  const visit = (file, trail) => {
    if (trail.includes(file)) return [...trail.slice(trail.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const target of imports.get(file) ?? []) {
      const circle = visit(target, [...trail, file]);
      if (circle) return circle;
    }
    done.add(file);
    return null;
  };
  for (const file of imports.keys()) {
    const circle = visit(file, []);
    if (circle) return circle;
  }
  return null;
}

test("each file imports from its own room and those below", () => {
  const imports = readImports();
  const wrong = [];
  for (const [file, targets] of imports) {
    const room = roomOf(file);
    assert.ok(ROOMS[room], `${file}: expected a file of ${Object.keys(ROOMS)}`);
    for (const target of targets) {
      assert.ok(imports.has(target) || roomOf(target) === "wasm", `${file} imports ${target}, which is no source file`);
      if (roomOf(target) !== room && !ROOMS[room].includes(roomOf(target))) wrong.push(`${file} -> ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("no files import each other in a circle", () => {
  const ring = new Map([
    ["a", ["b"]],
    ["b", ["c", "d"]],
    ["c", []],
    ["d", ["b"]],
  ]);
  assert.deepEqual(findCircle(ring), ["b", "d", "b"], "the search itself");
  assert.equal(findCircle(readImports()), null);
});

test("the imports are read", () => {
  const imports = readImports();
  assert.deepEqual(imports.get("isolation/coi-sw"), ["isolation/isolate", "isolation/service-worker"]);
  assert.ok(imports.get("api/index").includes("api/generator"), "a re-export counts");
  assert.ok(imports.get("worker/wasm").includes("../wasm/gpt2_web"), "the WebAssembly module counts");
  assert.ok(imports.get("page/router").includes("page/models/index"), "a view that is fetched later counts");
});
