// Packed weights in the cache, in place of the checkpoint's own: the modules that keep them, in a real browser.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { beforeEach, test } from "node:test";
import { limitStorage } from "./browser.mjs";
import { bundleCache, prepareVisits } from "./packed-visits.mjs";
import { ServedFile } from "./served-file.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { until } from "./until.mjs";

const MB = 1 << 20;
const CHUNK = 4 * MB;
const [RAW, PACKED] = ["model.safetensors", "model.q8.v2.packed"];
const files = {
  "config.json": new ServedFile(Buffer.from("{}")),
  "tokenizer.json": new ServedFile(Buffer.from("[]")),
  [RAW]: new ServedFile(randomBytes(10 * MB)),
};

const stage = await openStageWithFreshTab(prepareVisits);
const modules = await bundleCache();
stage.served.hooks.intercept = (request, response) => {
  const file = files[request.url.replace("/models/packed/", "")];
  if (file) file.answer(request, response);
  else if (request.url === "/modules.js") response.writeHead(200, { "Content-Type": "text/javascript" }).end(modules);
  else return false;
  return true;
};
beforeEach(() => {
  for (const file of Object.values(files)) file.reset();
});

const visit = (...args) => stage.page.evaluate((args) => visit(...args), args);
/** What is kept of the weights. */
const stored = async (page = stage.page) =>
  (await page.evaluate(() => stored())).filter((entry) => !entry.file.endsWith(".json"));
const storedNames = async () => (await stored()).map((entry) => entry.file);
const isCached = (dtype = "auto") => stage.page.evaluate((dtype) => cache.isCached("/models/packed", { dtype }), dtype);

test("packed weights take the place of the checkpoint's own, in blobs of 32 MiB", async () => {
  const bytes = 36_000_000;
  assert.deepEqual(await visit(PACKED, { bytes }), { from: "network", rawBytes: 10 * MB, warnings: [] });
  assert.deepEqual(await stored(), [{ file: PACKED, n_bytes: bytes, n_chunks: 2, whole: true }]);
  assert.deepEqual(await visit(PACKED, { bytes }), { from: "cache", isRight: true, warnings: [] });
  assert.deepEqual(
    Object.values(files).map((f) => f.answers.length),
    [1, 1, 1],
    "nothing is asked for twice",
  );
  const [entry] = await stage.page.evaluate(() => cache.listModels());
  assert.deepEqual([entry.complete, entry.dtypes, entry.bytes], [true, ["q8"], bytes + 4]);
  assert.deepEqual(
    [await isCached(), await isCached("auto"), await isCached("q8"), await isCached("q4")],
    [true, true, true, false],
  );
});

test("a browser that keeps no blobs keeps chunks of 4 MiB", async () => {
  await stage.page.evaluate(() => {
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (value, ...key) {
      if (value instanceof Blob) throw new DOMException("no blobs here", "DataCloneError");
      return put.call(this, value, ...key);
    };
  });
  assert.deepEqual(await visit(PACKED), { from: "network", rawBytes: 10 * MB, warnings: [] });
  assert.deepEqual(await stored(), [{ file: PACKED, n_bytes: 9_000_000, n_chunks: 3, whole: true }]);
  assert.deepEqual(await visit(PACKED), { from: "cache", isRight: true, warnings: [] });
});

test("another format fetches the weights again and keeps both; a part of them resumes", async () => {
  await visit(PACKED);
  files[RAW].holdAfter = 9 * MB;
  void visit("model.q4.v2.packed").catch(() => undefined); // ends with its page
  await until("two chunks of the weights are stored", async () =>
    (await stored()).some((entry) => entry.file === RAW && entry.n_bytes === 2 * CHUNK),
  );
  await stage.visitAgain();
  files[RAW].release();
  assert.equal(await isCached("q8"), true, "what is whole stays so meanwhile");
  assert.equal((await visit("model.q4.v2.packed", { seed: 5, bytes: 5_000_000 })).from, "network");
  assert.equal(files[RAW].answers[2].from, 2 * CHUNK);
  assert.deepEqual(await storedNames(), ["model.q4.v2.packed", PACKED]);
  assert.deepEqual([await isCached("q4"), await isCached("q8")], [true, true]);
  assert.equal((await visit(PACKED)).isRight, true);
  assert.equal((await visit("model.q4.v2.packed", { seed: 5, bytes: 5_000_000 })).isRight, true);
});

test("another version of the layout is not found, and takes the older one's place", async () => {
  await visit("model.q8.v1.packed");
  await visit("model.q4.v1.packed");
  assert.equal((await visit(PACKED)).from, "network");
  assert.deepEqual(await storedNames(), ["model.q4.v1.packed", PACKED]);
});

test("what breaks off while it is packed leaves the weights, and begins anew", async () => {
  const broken = await visit(PACKED, { failAfter: 5 * MB });
  assert.match(broken.warnings.join(), /model\.q8\.v2\.packed: not cached/);
  assert.deepEqual(await stored(), [{ file: RAW, n_bytes: 10 * MB, n_chunks: 3, whole: true }]);
  assert.equal(await isCached("q4"), true, "of the checkpoint's own weights any format can be made");
  const aborted = await visit(PACKED, { abortAfter: 5 * MB });
  assert.equal(aborted.name, "AbortError");
  assert.deepEqual(await storedNames(), [RAW]);
  assert.equal((await visit(PACKED)).from, "network");
  assert.equal((await visit(PACKED)).isRight, true);
  assert.equal(files[RAW].answers.length, 1, "the weights came once");
});

test("what a crash left of a packed file is not read, and goes", async () => {
  const hung = { bytes: 60_000_000, hangAfter: 50_000_000 };
  void visit("model.q4.v2.packed", hung).catch(() => undefined); // ends with its page
  const other = await stage.tab();
  await until("a part of the packed file is stored", async () =>
    (await stored(other)).some((entry) => entry.file.endsWith(".packed") && entry.n_chunks > 0),
  );
  await stage.visitAgain(); // a crash is a page that is gone in the middle
  assert.deepEqual(
    (await stored()).map((f) => [f.file, f.whole]),
    [
      ["model.q4.v2.packed", false],
      [RAW, true],
    ],
  );
  assert.equal((await visit(PACKED)).from, "network");
  assert.deepEqual(await storedNames(), [PACKED]);
  assert.equal(files[RAW].answers.length, 1);
});

test("no room for the weights: the packed ones are kept if they fit", async () => {
  await limitStorage(stage.page, 7 * MB);
  const { from, rawBytes, warnings } = await visit(PACKED, { bytes: 4_000_000 });
  assert.deepEqual([from, rawBytes], ["network", 10 * MB]);
  assert.match(warnings.join(), /^not cached: the browser's storage is full[^,]*$/);
  assert.deepEqual(await storedNames(), [PACKED]);
  assert.equal(await isCached("q8"), true);
  assert.equal((await visit(PACKED, { bytes: 4_000_000 })).isRight, true);
});

test("no room for both: the packed ones take the place of the weights", async () => {
  await limitStorage(stage.page, 14 * MB);
  assert.deepEqual((await visit(PACKED)).warnings, []);
  assert.deepEqual(await storedNames(), [PACKED]);
  assert.equal((await visit(PACKED)).isRight, true);
});

test("no room for either: nothing is left behind", async () => {
  await limitStorage(stage.page, 4 * MB);
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
  assert.match(error.message, /config\.json: it changed on the server/);
  assert.deepEqual(await storedNames(), [PACKED], "what is whole stays");
  assert.equal((await visit("model.q4.v2.packed", { options: { isAnew: true } })).from, "network");
  assert.deepEqual(await storedNames(), ["model.q4.v2.packed"]);
});

test("a lost chunk is told, and the weights are fetched again", async () => {
  await visit(PACKED);
  await stage.page.evaluate(async (name) => {
    const db = await openCache();
    const chunks = db.transaction("chunks", "readwrite").objectStore("chunks");
    await answered(chunks.delete([`${MODEL.base}#main`, name, 0]));
    db.close();
  }, PACKED);
  assert.equal((await visit(PACKED)).code, "integrity");
  assert.equal(await isCached("q8"), false);
  assert.equal((await visit(PACKED)).from, "network");
  assert.equal((await visit(PACKED)).isRight, true);
});

test("without a cache nothing is kept", async () => {
  assert.deepEqual(await visit(PACKED, { options: { cache: false } }), {
    from: "network",
    rawBytes: 10 * MB,
    warnings: [],
  });
  assert.deepEqual(await stage.page.evaluate(() => cache.listModels()), []);
});

test("a cache of the first layout: whole models stay, the rest goes", async () => {
  await stage.page.evaluate(async () => {
    const request = indexedDB.open("gpt2-web", 1);
    request.onupgradeneeded = () => {
      const db = request.result;
      const models = db.createObjectStore("models", { keyPath: "model" });
      const files = db.createObjectStore("files", { keyPath: ["model", "file"] });
      const chunks = db.createObjectStore("chunks");
      const entry = { n_bytes: 2, n_chunks: 1, whole: true, checked: true, bytes: 2, tag: '"t"', sha256: null };
      const key = `${MODEL.base}#main`;
      models.put({ model: key, name: "/models/packed", revision: "main", saved_at: "2026-01-01T00:00:00.000Z" });
      for (const [model, file] of [
        [key, "config.json"],
        [key, "model.safetensors"],
        ["other", "model.safetensors"],
      ]) {
        files.put({ ...entry, model, file });
        chunks.put(new Uint8Array(2), [model, file, 0]);
      }
    };
    await new Promise((resolve) => (request.onsuccess = resolve));
    request.result.close();
  });
  const [entry, ...others] = await stage.page.evaluate(() => cache.listModels());
  assert.deepEqual(others, []);
  assert.deepEqual(
    [entry.complete, entry.dtypes, entry.files, entry.saved_at],
    [true, [], ["config.json", RAW], "2026-01-01T00:00:00.000Z"],
  );
  assert.deepEqual(await stage.page.evaluate(() => store.filesOf("other")), []);
  assert.equal(await isCached("q4"), true);
});
