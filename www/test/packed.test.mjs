// Packed weights in the cache, in place of the checkpoint's own: the modules that keep them, in a real browser.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { build } from "esbuild";
import { launch } from "./browser.mjs";
import { Flaky } from "./flaky.mjs";
import { WWW, site } from "./site.mjs";

const MB = 1 << 20;
const [RAW, PACKED] = ["model.safetensors", "model.q8.v2.packed"];
let browser, context, page, served, modules;
const files = { "config.json": new Flaky(Buffer.from("{}")), "tokenizer.json": new Flaky(Buffer.from("[]")), [RAW]: new Flaky(randomBytes(10 * MB)) };

before(async () => {
  served = await site();
  browser = await launch();
  const contents = 'export { openHub } from "./open-hub.ts"; export * as cache from "./cache.ts"; export * as store from "./store.ts";';
  const built = await build({ stdin: { contents, resolveDir: path.join(WWW, "src/files"), loader: "ts" }, define: { PACKAGE_VERSION: '"0"' }, bundle: true, format: "esm", target: "es2022", write: false });
  modules = built.outputFiles[0].text;
  served.hooks.intercept = (request, response) => {
    const file = files[request.url.replace("/models/packed/", "")];
    if (file) file.answer(request, response);
    else if (request.url === "/modules.js") response.writeHead(200, { "Content-Type": "text/javascript" }).end(modules);
    else return false;
    return true;
  };
});
after(async () => {
  await browser?.close();
  served?.close();
});
beforeEach(async () => {
  await context?.close();
  context = await browser.newContext();
  page = await tab();
  for (const file of Object.values(files)) file.reset();
});

async function tab() {
  const page = await context.newPage();
  await page.goto(served.url);
  await page.evaluate(visits);
  return page;
}

/** What is done in the page: `visit` is one load, as far as the hub sees it. */
async function visits() {
  const { openHub, cache, store } = await import("/modules.js");
  const MODEL = { kind: "url", name: "/models/packed", revision: "main", base: new URL("/models/packed/", location).href };
  const read = async (file) => {
    const pieces = [];
    for await (const chunk of file.chunks) pieces.push(chunk.slice());
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  };
  /** Bytes by which a file can be told from others. */
  const image = (bytes, seed) => Uint8Array.from({ length: bytes }, (_, i) => (i * seed) >> 7);
  const visit = async (name, { bytes = 9_000_000, seed = 3, options = {}, fail_after, abort_after, hang_after } = {}) => {
    const controller = new AbortController();
    const warnings = [];
    const hub = openHub(MODEL, { fetch: (url, init) => fetch(url, init), verify: true, cache: true, signal: controller.signal, warn: (m) => warnings.push(m), ...options });
    try {
      for (const file of ["config.json", "tokenizer.json"]) await read(await hub.open(file));
      const kept = await hub.openPacked(name);
      if (kept) {
        const found = await read(kept);
        await hub.complete();
        return { from: "cache", is_right: found.length === bytes && found.every((b, i) => b === (((i * seed) >> 7) & 255)), warnings };
      }
      const raw = await read(await hub.open("model.safetensors"));
      const whole = image(bytes, seed);
      async function* chunks() {
        // views of shared memory, as the kernels give them, in lengths of their own
        const memory = globalThis.crossOriginIsolated ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
        new Uint8Array(memory).set(whole);
        for (let at = 0; at < bytes; at += 3_000_001) {
          if (at > fail_after) throw new Error("no more");
          if (at > hang_after) await new Promise(() => undefined);
          if (at > abort_after) controller.abort();
          yield new Uint8Array(memory, at, Math.min(3_000_001, bytes - at));
        }
      }
      await hub.keepPacked(name, bytes, chunks(), ["model.safetensors"]);
      await hub.complete();
      return { from: "network", n_raw: raw.length, warnings };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message, warnings };
    } finally {
      await hub.close();
    }
  };
  const stored = async () => (await store.filesOf(`${MODEL.base}#main`)).filter((f) => f.n_bytes !== null).map(({ file, n_bytes, n_chunks, whole }) => ({ file, n_bytes, n_chunks, whole }));
  Object.assign(window, { visit, stored, cache, store, MODEL });
}

const visit = (...args) => page.evaluate((args) => visit(...args), args);
const stored = async () => (await page.evaluate(() => stored())).filter((f) => !f.file.endsWith(".json"));
const isCached = (dtype) => page.evaluate((dtype) => cache.isCached("/models/packed", dtype ? { dtype } : {}), dtype);
const limit = async (quotaSize) => {
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(served.url).origin, quotaSize });
};

test("packed weights take the place of the checkpoint's own, in blobs of 32 MiB", async () => {
  const bytes = 36_000_000;
  assert.deepEqual(await visit(PACKED, { bytes }), { from: "network", n_raw: 10 * MB, warnings: [] });
  assert.deepEqual(await stored(), [{ file: PACKED, n_bytes: bytes, n_chunks: 2, whole: true }]);
  assert.deepEqual(await visit(PACKED, { bytes }), { from: "cache", is_right: true, warnings: [] });
  assert.deepEqual(Object.values(files).map((f) => f.answers.length), [1, 1, 1], "nothing is asked for twice");
  const [entry] = await page.evaluate(() => cache.listModels());
  assert.deepEqual([entry.complete, entry.dtypes, entry.bytes], [true, ["q8"], bytes + 4]);
  assert.deepEqual([await isCached(), await isCached("auto"), await isCached("q8"), await isCached("q4")], [true, true, true, false]);
});

test("a browser that keeps no blobs keeps chunks of 4 MiB", async () => {
  await page.evaluate(() => {
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (value, ...key) {
      if (value instanceof Blob) throw new DOMException("no blobs here", "DataCloneError");
      return put.call(this, value, ...key);
    };
  });
  assert.deepEqual(await visit(PACKED), { from: "network", n_raw: 10 * MB, warnings: [] });
  assert.deepEqual(await stored(), [{ file: PACKED, n_bytes: 9_000_000, n_chunks: 3, whole: true }]);
  assert.deepEqual(await visit(PACKED), { from: "cache", is_right: true, warnings: [] });
});

test("another format fetches the weights again and keeps both; a part of them resumes", async () => {
  await visit(PACKED);
  files[RAW].slow = 20;
  void visit("model.q4.v2.packed").catch(() => undefined); // ends with its page
  while ((files[RAW].answers[1]?.sent ?? 0) < 8 * MB) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  files[RAW].slow = 0;
  page = await tab();
  assert.equal(await isCached("q8"), true, "what is whole stays so meanwhile");
  assert.equal((await visit("model.q4.v2.packed", { seed: 5, bytes: 5_000_000 })).from, "network");
  assert.ok(files[RAW].answers[2].from >= 4 * MB);
  assert.deepEqual((await stored()).map((f) => f.file), ["model.q4.v2.packed", PACKED]);
  assert.deepEqual([await isCached("q4"), await isCached("q8")], [true, true]);
  assert.equal((await visit(PACKED)).is_right, true);
  assert.equal((await visit("model.q4.v2.packed", { seed: 5, bytes: 5_000_000 })).is_right, true);
});

test("another version of the layout is not found, and takes the older one's place", async () => {
  await visit("model.q8.v1.packed");
  await visit("model.q4.v1.packed");
  assert.equal((await visit(PACKED)).from, "network");
  assert.deepEqual((await stored()).map((f) => f.file), ["model.q4.v1.packed", PACKED]);
});

test("what breaks off while it is packed leaves the weights, and begins anew", async () => {
  const broken = await visit(PACKED, { fail_after: 5 * MB });
  assert.match(broken.warnings.join(), /model\.q8\.v2\.packed: not cached/);
  assert.deepEqual(await stored(), [{ file: RAW, n_bytes: 10 * MB, n_chunks: 3, whole: true }]);
  assert.equal(await isCached("q4"), true, "of the checkpoint's own weights any format can be made");
  const aborted = await visit(PACKED, { abort_after: 5 * MB });
  assert.equal(aborted.name, "AbortError");
  assert.deepEqual((await stored()).map((f) => f.file), [RAW]);
  assert.equal((await visit(PACKED)).from, "network");
  assert.equal((await visit(PACKED)).is_right, true);
  assert.equal(files[RAW].answers.length, 1, "the weights came once");
});

test("what a crash left of a packed file is not read, and goes", async () => {
  // a crash is a page that is gone in the middle
  void page.evaluate(() => visit("model.q4.v2.packed", { bytes: 60_000_000, hang_after: 50_000_000 })).catch(() => undefined);
  const other = await tab();
  const isBegun = () => other.evaluate(async () => (await stored()).some((f) => f.file.endsWith(".packed") && f.n_chunks > 0));
  while (!(await isBegun())) await other.waitForTimeout(5);
  await page.close();
  page = other;
  assert.deepEqual((await stored()).map((f) => [f.file, f.whole]), [["model.q4.v2.packed", false], [RAW, true]]);
  assert.equal((await visit(PACKED)).from, "network");
  assert.deepEqual((await stored()).map((f) => f.file), [PACKED]);
  assert.equal(files[RAW].answers.length, 1);
});

test("no room for the weights: the packed ones are kept if they fit", async () => {
  await limit(7 * MB);
  const { from, n_raw, warnings } = await visit(PACKED, { bytes: 4_000_000 });
  assert.deepEqual([from, n_raw], ["network", 10 * MB]);
  assert.match(warnings.join(), /^not cached: the browser's storage is full[^,]*$/);
  assert.deepEqual((await stored()).map((f) => f.file), [PACKED]);
  assert.equal(await isCached("q8"), true);
  assert.equal((await visit(PACKED, { bytes: 4_000_000 })).is_right, true);
});

test("no room for both: the packed ones take the place of the weights", async () => {
  await limit(14 * MB);
  assert.deepEqual((await visit(PACKED)).warnings, []);
  assert.deepEqual((await stored()).map((f) => f.file), [PACKED]);
  assert.equal((await visit(PACKED)).is_right, true);
});

test("no room for either: nothing is left behind", async () => {
  await limit(4 * MB);
  const { from, warnings } = await visit(PACKED);
  assert.equal(from, "network");
  assert.equal(warnings.length, 2);
  assert.deepEqual(await stored(), []);
  assert.equal(await isCached(), false);
});

test("what was packed unchecked is not trusted by a visit that checks", async () => {
  await visit(PACKED, { options: { verify: false } });
  assert.equal((await visit(PACKED, { options: { verify: false } })).from, "cache");
  assert.equal((await visit(PACKED)).from, "network");
  assert.equal((await visit(PACKED)).from, "cache");
});

test("small files of an earlier day are not mixed with new weights", async () => {
  await visit(PACKED);
  files["config.json"].tag = '"changed"';
  assert.equal((await visit(PACKED)).from, "cache", "nobody asks");
  const error = await visit("model.q4.v2.packed");
  assert.deepEqual([error.name, error.code], ["IntegrityError", "integrity"]);
  assert.match(error.message, /config\.json: it has changed on the server/);
  assert.equal((await visit("model.q4.v2.packed")).from, "network");
  assert.deepEqual((await stored()).map((f) => f.file), ["model.q4.v2.packed"]);
});

test("a lost chunk is told, and the weights are fetched again", async () => {
  await visit(PACKED);
  await page.evaluate(async (name) => {
    const db = await new Promise((resolve) => (indexedDB.open("gpt2-web").onsuccess = (e) => resolve(e.target.result)));
    const chunks = db.transaction("chunks", "readwrite").objectStore("chunks");
    await new Promise((resolve) => (chunks.delete([`${MODEL.base}#main`, name, 0]).onsuccess = resolve));
    db.close();
  }, PACKED);
  assert.equal((await visit(PACKED)).code, "integrity");
  assert.equal(await isCached("q8"), false);
  assert.equal((await visit(PACKED)).from, "network");
  assert.equal((await visit(PACKED)).is_right, true);
});

test("without a cache nothing is kept", async () => {
  assert.deepEqual(await visit(PACKED, { options: { cache: false } }), { from: "network", n_raw: 10 * MB, warnings: [] });
  assert.deepEqual(await page.evaluate(() => cache.listModels()), []);
});

test("a cache of the first layout: whole models stay, the rest goes", async () => {
  await page.evaluate(async () => {
    const request = indexedDB.open("gpt2-web", 1);
    request.onupgradeneeded = () => {
      const db = request.result;
      const models = db.createObjectStore("models", { keyPath: "model" });
      const files = db.createObjectStore("files", { keyPath: ["model", "file"] });
      const chunks = db.createObjectStore("chunks");
      const entry = { n_bytes: 2, n_chunks: 1, whole: true, checked: true, bytes: 2, tag: '"t"', sha256: null };
      const key = `${MODEL.base}#main`;
      models.put({ model: key, name: "/models/packed", revision: "main", saved_at: "2026-01-01T00:00:00.000Z" });
      for (const [model, file] of [[key, "config.json"], [key, "model.safetensors"], ["other", "model.safetensors"]]) {
        files.put({ ...entry, model, file });
        chunks.put(new Uint8Array(2), [model, file, 0]);
      }
    };
    await new Promise((resolve) => (request.onsuccess = resolve));
    request.result.close();
  });
  const [entry, ...others] = await page.evaluate(() => cache.listModels());
  assert.deepEqual(others, []);
  assert.deepEqual([entry.complete, entry.dtypes, entry.files, entry.saved_at], [true, [], ["config.json", RAW], "2026-01-01T00:00:00.000Z"]);
  assert.deepEqual(await page.evaluate(() => store.filesOf("other")), []);
  assert.equal(await isCached("q4"), true);
});
