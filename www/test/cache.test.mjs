// What the browser keeps of a model: how much, in which format, where there is no room for it, and until when.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BIG, serveBigModel } from "./big-model.mjs";
import { limitStorage } from "./browser.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, untilStored } from "./tab.mjs";
import { until } from "./until.mjs";

const MB = 1 << 20;
const CHUNK = 4 * MB;
const stage = await openStageWithFreshTab();
const server = serveBigModel(stage);
const load = (options) => loadAndWrite(stage.page, BIG, options);
const listModels = () => stage.page.evaluate(() => gpt2.listModels());
const deleteModel = () => stage.page.evaluate((model) => gpt2.deleteModel(model), BIG);
const isCached = (dtype = "auto") =>
  stage.page.evaluate(([model, dtype]) => gpt2.isCached(model, { dtype }), [BIG, dtype]);

test("a chunk that the browser has lost is told, and fetched again on a retry", async () => {
  assert.ok((await load()).text);
  await stage.page.evaluate(async () => {
    const db = await openCache();
    const chunks = db.transaction("chunks", "readwrite").objectStore("chunks");
    const keys = await answered(chunks.getAllKeys());
    await answered(chunks.delete(keys.find(([, file]) => /\.(safetensors|packed)$/.test(file))));
    db.close();
  });
  const error = await load();
  assert.equal(error.code, "integrity");
  assert.match(error.message, /^model\..*: the browser has lost a part/);
  assert.ok((await load()).text);
  assert.deepEqual(
    server.answers.map((answer) => answer.from),
    [0, 0],
  );
});

test("no room for the checkpoint: what was packed of it is kept", async () => {
  await limitStorage(stage.page, 6 * MB);
  const { text, warnings } = await load();
  assert.ok(text);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(await isCached("q8"), true, warnings.join("\n"));
  assert.equal((await load()).text, text);
  assert.equal(server.answers.length, 1);
});

test("no room at all: loading goes on without the cache and says so", async () => {
  await limitStorage(stage.page, 1 * MB);
  const { text, warnings } = await load();
  assert.ok(text);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(await isCached(), false);
});

test("what is kept is what was converted; another format fetches the weights again", async () => {
  const q8 = await load();
  const [one] = await listModels();
  assert.deepEqual([one.complete, one.dtypes], [true, ["q8"]]);
  assert.ok(one.bytes < 4 * MB, `${one.bytes} bytes of ${server.bytes.length}`);
  await load({ dtype: "fp32" });
  assert.deepEqual([(await listModels())[0].dtypes, server.answers.length], [["fp32", "q8"], 2]);
  assert.equal((await load()).text, q8.text);
  await load({ dtype: "fp32" });
  assert.equal(server.answers.length, 2, "now both are there");
  const cached = [await isCached("auto"), await isCached("q8"), await isCached("fp32"), await isCached("q4")];
  assert.deepEqual(cached, [true, true, true, false]);
});

test("deleting frees the space", async () => {
  const usage = () => stage.page.evaluate(async () => (await gpt2.storageEstimate()).usage);
  await load();
  const [full] = await listModels();
  assert.deepEqual([full.name, full.complete, full.total_bytes], [BIG, true, full.bytes]);
  const before = await usage();
  assert.ok(before >= full.bytes / 2, `${before} of ${full.bytes} bytes`); // some of it is compressed
  await deleteModel();
  assert.deepEqual(await listModels(), []);
  // the browser gives the space back when it gets round to it
  await until(`less than ${before} bytes are used`, async () => (await usage()) < before - full.bytes / 2);
});

test("a download that stopped is listed as such, and can be deleted", async () => {
  server.holdAfter = 9 * MB;
  void load().catch(() => undefined); // ends with its page
  await untilStored(stage.page, BIG, 2 * CHUNK);
  await stage.visitAgain();
  const [part] = await listModels();
  assert.deepEqual([part.name, part.revision, part.complete, part.dtypes], [BIG, "main", false, []]);
  assert.ok(part.bytes >= 2 * CHUNK && part.bytes < 9 * MB, `${part.bytes} bytes`);
  assert.ok(part.total_bytes >= server.bytes.length, `${part.total_bytes} bytes in all`);
  assert.equal(await isCached(), false);
  await deleteModel();
  assert.deepEqual(await listModels(), []);
  server.release();
  assert.ok((await load()).text);
  assert.equal(server.answers[1].from, 0, "nothing of it was left");
});
