// Downloads that go wrong: cut, changed on the way, refused, raced by another tab, out of room. In a real browser.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { launch } from "./browser.mjs";
import { Flaky, safetensors, tensorsOf } from "./flaky.mjs";
import { WWW, site } from "./site.mjs";

const FILE = "/models/big/model.safetensors";
let browser, context, page, served;
/** The server of FILE. */
let server;

before(async () => {
  served = await site();
  browser = await launch();
  // the demo model with a mask buffer of 20 MB before its tensors, so that there are chunks to resume at
  const pad = randomBytes(20 << 20);
  const tensors = tensorsOf(readFileSync(path.join(WWW, "demo/model.safetensors")));
  server = new Flaky(safetensors([["transformer.h.0.attn.bias", { dtype: "U8", shape: [pad.length], data: pad }], ...tensors]));
  served.hooks.intercept = intercept;
});
after(async () => {
  await browser?.close();
  served?.close();
});
beforeEach(async () => {
  await context?.close();
  context = await browser.newContext();
  page = await tab();
  server.reset();
});

async function tab() {
  const page = await context.newPage();
  await page.goto(served.url);
  await page.evaluate(async () => (window.gpt2 = await import("/package/dist/index.js")));
  return page;
}

function intercept(request, response) {
  const redirect = /^\/models\/big\/(config|tokenizer)\.json$/.exec(request.url);
  if (redirect) response.writeHead(302, { Location: `/models/whole/${redirect[1]}.json` }).end();
  else if (request.url === FILE) server.answer(request, response);
  else return false;
  return true;
}

/** Loads the model in a page. → its text, or the error */
const load = (on = page, options = {}) =>
  on.evaluate(async (options) => {
    try {
      const generator = await gpt2.createGenerator("/models/big", { device: "wasm", ...options });
      const { text } = await generator.complete("The old king", { max_new_tokens: 8, do_sample: false, eos_token_id: null });
      await generator.dispose();
      return { text, warnings: generator.info.warnings };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message };
    }
  }, options);

const CHUNK = 4 << 20;

test("a connection that is cut goes on where it broke, at any place", { timeout: 120_000 }, async () => {
  for (const cut_after of [100, CHUNK - 1, CHUNK, 9 << 20, 20 << 20]) {
    await context.close();
    context = await browser.newContext();
    page = await tab();
    server.reset();
    Object.assign(server, { cut_after, linger: 1000 });
    const result = await load();
    assert.ok(result.text, `cut after ${cut_after}: ${result.message}`);
    assert.equal(server.answers.length, 2);
    assert.equal(server.answers[1].from, cut_after, "not one byte twice");
    assert.equal(server.answers[1].from + server.answers[1].sent, server.bytes.length);
  }
});

test("a closed tab goes on at the next visit, within a chunk of where it was", async () => {
  server.slow = 20;
  void load().catch(() => undefined); // ends with its page
  while ((server.answers[0]?.sent ?? 0) < 12 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  const sent = server.answers[0].sent;
  server.slow = 0;
  page = await tab();
  assert.ok((await load()).text);
  assert.ok(server.answers[1].from > 0 && server.answers[1].from <= sent, `${server.answers[1].from}`);
  assert.ok(sent - server.answers[1].from <= 2 * CHUNK, `${sent - server.answers[1].from} bytes again`); // a chunk, and what was in the pipe
});

test("an abort keeps what arrived, to the byte", async () => {
  server.slow = 20;
  const aborted = await page.evaluate(async () => {
    const controller = new AbortController();
    let loaded = 0;
    const progress_callback = (e) => {
      if (e.file !== "model.safetensors" || e.loaded < 9 << 20) return;
      loaded = e.loaded;
      controller.abort();
    };
    const name = await gpt2.createGenerator("/models/big", { device: "wasm", signal: controller.signal, progress_callback }).catch((e) => e.name);
    return { name, loaded };
  });
  assert.equal(aborted.name, "AbortError");
  const sent = server.answers[0].sent;
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
  server.slow = 0;
  assert.ok((await load()).text);
  const [, { from, sent: rest }] = server.answers;
  assert.ok(from >= aborted.loaded, `${aborted.loaded} bytes had come, and it went on from ${from}`);
  assert.ok(from <= sent + (1 << 20), "and the connection was closed");
  assert.equal(from + rest, server.bytes.length);
});

test("a server without ranges begins anew, and says so", async () => {
  server.slow = 20;
  void load().catch(() => undefined);
  while ((server.answers[0]?.sent ?? 0) < 8 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  Object.assign(server, { slow: 0, ranges: false });
  page = await tab();
  const { text, warnings } = await load();
  assert.ok(text);
  assert.equal(server.answers[1].from, 0);
  assert.match(warnings.join(), /did not continue the download from byte \d+/);
});

test("a file that changed on the server meanwhile begins anew", async () => {
  server.slow = 20;
  void load().catch(() => undefined);
  while ((server.answers[0]?.sent ?? 0) < 8 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  Object.assign(server, { slow: 0, tag: '"another"' });
  page = await tab();
  assert.ok((await load()).text);
  assert.deepEqual(server.answers.slice(1).map((a) => a.from > 0), [true, false], "a piece of it was offered and not taken");
});

test("a flipped byte is refused, and a retry starts clean", async () => {
  server.flip = true;
  const error = await load();
  assert.deepEqual([error.name, error.code], ["IntegrityError", "integrity"]);
  assert.match(error.message, new RegExp(`model.safetensors: expected SHA-256 ${server.sha256}, found [0-9a-f]{64}`));
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
  server.flip = false;
  assert.ok((await load()).text);
  assert.equal(server.answers[1].from, 0, "nothing of the bad file is kept");
});

test("what was not checked is not trusted by a load that checks", async () => {
  server.flip = true;
  assert.ok((await load(page, { verify: false })).text, "verify: false takes what comes");
  server.flip = false;
  assert.ok((await load()).text);
  assert.deepEqual(server.answers.map((a) => a.from), [0, 0]);
  assert.ok((await load()).text);
  assert.equal(server.answers.length, 2, "now it is checked, and kept");
});

test("a cut connection to a server without ranges begins anew by itself", async () => {
  Object.assign(server, { ranges: false, cut_after: 9 << 20, linger: 1000 });
  assert.ok((await load()).text);
  assert.deepEqual(server.answers.map((a) => [a.from, a.sent]), [[0, 9 << 20], [0, server.bytes.length]]);
});

test("a model that is deleted while it loads is not listed, and loads", async () => {
  server.slow = 20;
  const other = await tab();
  const loading = load();
  while ((server.answers[0]?.sent ?? 0) < 12 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await other.evaluate(() => gpt2.deleteModel("/models/big"));
  const { text, warnings } = await loading;
  assert.ok(text);
  assert.match(warnings.join(), /not cached: .*was deleted, or is written by another tab/);
  assert.ok((server.slow = 0, await load()).text, "and a later visit is not harmed");
});

test("a malformed file is not kept: once the server has mended it, a retry works", async () => {
  const good = server.bytes;
  server.bytes = good.subarray(0, good.length - 1000); // whole as far as the server knows
  try {
    server.tag = undefined;
    const error = await load();
    assert.equal(error.code, "checkpoint");
  } finally {
    server.bytes = good;
  }
  assert.ok((await load()).text);
});

test("a chunk that the browser has lost is told, and fetched again on a retry", async () => {
  assert.ok((await load()).text);
  await page.evaluate(async () => {
    const db = await new Promise((resolve, reject) => Object.assign(indexedDB.open("gpt2-web"), { onsuccess: (e) => resolve(e.target.result), onerror: reject }));
    const chunks = db.transaction("chunks", "readwrite").objectStore("chunks");
    await new Promise((resolve) => (chunks.getAllKeys().onsuccess = (e) => (chunks.delete(e.target.result.find(([, file]) => /\.(safetensors|packed)$/.test(file))).onsuccess = resolve)));
    db.close();
  });
  const error = await load();
  assert.equal(error.code, "integrity");
  assert.match(error.message, /^model\..*: the browser has lost a part/);
  assert.ok((await load()).text);
  assert.deepEqual(server.answers.map((a) => a.from), [0, 0]);
});

test("a busy server is asked again, no sooner than it wants", async () => {
  server.status = [[503, {}], [429, { "Retry-After": "1", "Access-Control-Expose-Headers": "Retry-After" }]];
  const start = performance.now();
  assert.ok((await load()).text);
  assert.ok(performance.now() - start > 1400);
  assert.deepEqual(server.answers.map((a) => a.status), [503, 429, undefined]);
});

test("a server that refuses is not asked again", async () => {
  server.status = [[403, {}], [403, {}]];
  const error = await load();
  assert.deepEqual([error.name, error.code], ["NetworkError", "network"]);
  assert.match(error.message, /HTTP status 403: the model is private/);
  assert.equal(server.answers.length, 1);
});

test("two tabs load it once", async () => {
  server.slow = 5;
  const other = await tab();
  const [a, b] = await Promise.all([load(page), load(other)]);
  assert.ok(a.text && a.text === b.text);
  assert.equal(server.answers.length, 1);
});

const limit = async (quotaSize) => {
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(served.url).origin, quotaSize });
};

test("no room for the checkpoint: what was packed of it is kept", async () => {
  await limit(6 << 20);
  const { text, warnings } = await load();
  assert.ok(text);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big", { dtype: "q8" })), true, warnings.join("\n"));
  assert.equal((await load()).text, text);
  assert.equal(server.answers.length, 1);
});

test("no room at all: loading goes on without the cache and says so", async () => {
  await limit(1 << 20);
  const { text, warnings } = await load();
  assert.ok(text);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
});

test("what is kept is what was converted; another format fetches the weights again", async () => {
  const models = () => page.evaluate(() => gpt2.listModels());
  const q8 = await load();
  const [one] = await models();
  assert.deepEqual([one.complete, one.dtypes], [true, ["q8"]]);
  assert.ok(one.bytes < 4 << 20, `${one.bytes} bytes of ${server.bytes.length}`);
  await load(page, { dtype: "fp32" });
  assert.deepEqual([(await models())[0].dtypes, server.answers.length], [["fp32", "q8"], 2]);
  assert.equal((await load()).text, q8.text);
  await load(page, { dtype: "fp32" });
  assert.equal(server.answers.length, 2, "now both are there");
  const cached = (dtype) => page.evaluate((dtype) => gpt2.isCached("/models/big", { dtype }), dtype);
  assert.deepEqual([await cached("auto"), await cached("q8"), await cached("fp32"), await cached("q4")], [true, true, true, false]);
});

test("deleting frees the space", async () => {
  const usage = () => page.evaluate(async () => (await gpt2.storageEstimate()).usage);
  await load();
  const [full] = await page.evaluate(() => gpt2.listModels());
  assert.deepEqual([full.name, full.complete, full.total_bytes], ["/models/big", true, full.bytes]);
  const before = await usage();
  assert.ok(before >= full.bytes / 2, `${before} of ${full.bytes} bytes`); // some of it is compressed
  await page.evaluate(() => gpt2.deleteModel("/models/big"));
  assert.deepEqual(await page.evaluate(() => gpt2.listModels()), []);
  // the browser gives the space back when it gets round to it
  for (let i = 0; i < 100 && (await usage()) > before - full.bytes / 2; i++) await page.waitForTimeout(100);
  assert.ok((await usage()) < before - full.bytes / 2, `${await usage()} of ${before} bytes still used`);
});

test("a download that stopped is listed as such, and can be deleted", async () => {
  server.slow = 20;
  void load().catch(() => undefined); // ends with its page
  while ((server.answers[0]?.sent ?? 0) < 12 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  page = await tab();
  const [part] = await page.evaluate(() => gpt2.listModels());
  assert.deepEqual([part.name, part.revision, part.complete, part.dtypes], ["/models/big", "main", false, []]);
  assert.ok(part.bytes >= CHUNK && part.bytes < server.bytes.length, `${part.bytes} bytes`);
  assert.ok(part.total_bytes >= server.bytes.length, `${part.total_bytes} bytes in all`);
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
  await page.evaluate(() => gpt2.deleteModel("/models/big"));
  assert.deepEqual(await page.evaluate(() => gpt2.listModels()), []);
  server.slow = 0;
  assert.ok((await load()).text);
  assert.equal(server.answers[1].from, 0, "nothing of it was left");
});
