// Downloads that go wrong: cut, changed on the way, refused, raced by another tab, out of room. In a real browser.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { launch } from "./browser.mjs";
import { WWW, site } from "./site.mjs";

const FILE = "/models/big/model.safetensors";
let browser, context, page, served, bytes, sha256;
/** What the server did for FILE: `{ from, sent }` for each answer. */
let answers;
/** Changes what the server does. */
let server;

before(async () => {
  served = await site();
  browser = await launch();
  const small = readFileSync(path.join(WWW, "demo/model.safetensors"));
  // the demo model with a mask buffer of 20 MB before its tensors, so that there are chunks to resume at
  const n_json = Number(small.readBigUInt64LE(0));
  const header = JSON.parse(small.subarray(8, 8 + n_json));
  const n_pad = 20 << 20;
  for (const [name, entry] of Object.entries(header)) if (name !== "__metadata__") entry.data_offsets = entry.data_offsets.map((o) => o + n_pad);
  header["transformer.h.0.attn.bias"] = { dtype: "U8", shape: [n_pad], data_offsets: [0, n_pad] };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  bytes = Buffer.concat([prefix, json, randomBytes(n_pad), small.subarray(8 + n_json)]);
  sha256 = createHash("sha256").update(bytes).digest("hex");
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
  answers = [];
  server = { ranges: true, tag: `"${sha256}"`, cut_after: Infinity, flip: false, status: [] };
});

async function tab() {
  const page = await context.newPage();
  await page.goto(served.url);
  await page.evaluate(async () => (window.gpt2 = await import("/package/dist/index.js")));
  return page;
}

function intercept(request, response) {
  const redirect = /^\/models\/big\/(config|tokenizer)\.json$/.exec(request.url);
  if (redirect) {
    response.writeHead(302, { Location: `/models/whole/${redirect[1]}.json` }).end();
    return true;
  }
  if (request.url !== FILE) return false;
  const status = server.status.shift();
  if (status) {
    answers.push({ status: status[0] });
    response.writeHead(...status).end();
    return true;
  }
  const range = server.ranges && /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
  const from = range ? Number(range[1]) : 0;
  const answer = { from, sent: 0 };
  answers.push(answer);
  const body = Buffer.from(bytes.subarray(from));
  if (server.flip) body[body.length - 10] ^= 1;
  response.writeHead(range ? 206 : 200, {
    ...(server.tag ? { ETag: server.tag, ...(server.tag.length === 66 ? { "X-Linked-ETag": server.tag } : {}) } : {}),
    "Content-Type": "application/octet-stream",
    "Content-Length": body.length,
    ...(range ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
  });
  const end = Math.min(body.length, server.cut_after);
  server.cut_after = Infinity; // once
  const write = () => {
    if (response.destroyed) return;
    if (answer.sent >= end) return end < body.length ? setTimeout(() => response.destroy(), server.linger ?? 0) : response.end();
    const piece = body.subarray(answer.sent, Math.min(end, answer.sent + (256 << 10)));
    answer.sent += piece.length;
    response.write(piece, () => setTimeout(write, server.slow ?? 0));
  };
  write();
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
    answers = [];
    Object.assign(server, { cut_after, linger: 1000 }); // a reset throws away what is still in the pipe: let it drain
    const result = await load();
    assert.ok(result.text, `cut after ${cut_after}: ${result.message}`);
    assert.equal(answers.length, 2);
    assert.equal(answers[1].from, cut_after, "not one byte twice");
    assert.equal(answers[1].from + answers[1].sent, bytes.length);
  }
});

test("a closed tab goes on at the next visit, within a chunk of where it was", async () => {
  server.slow = 20;
  void load().catch(() => undefined); // ends with its page
  while ((answers[0]?.sent ?? 0) < 12 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  const sent = answers[0].sent;
  server.slow = 0;
  page = await tab();
  assert.ok((await load()).text);
  assert.ok(answers[1].from > 0 && answers[1].from <= sent, `${answers[1].from}`);
  assert.ok(sent - answers[1].from <= 2 * CHUNK, `${sent - answers[1].from} bytes again`); // a chunk, and what was in the pipe
});

test("an abort keeps what arrived", async () => {
  server.slow = 20;
  const aborted = page.evaluate(async () => {
    const controller = new AbortController();
    const progress_callback = (e) => e.file === "model.safetensors" && e.loaded > 9 << 20 && controller.abort();
    return gpt2.createGenerator("/models/big", { device: "wasm", signal: controller.signal, progress_callback }).catch((e) => e.name);
  });
  assert.equal(await aborted, "AbortError");
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
  server.slow = 0;
  assert.ok((await load()).text);
  assert.ok(answers[1].from >= CHUNK);
});

test("a server without ranges begins anew, and says so", async () => {
  server.slow = 20;
  void load().catch(() => undefined);
  while ((answers[0]?.sent ?? 0) < 8 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  Object.assign(server, { slow: 0, ranges: false });
  page = await tab();
  const { text, warnings } = await load();
  assert.ok(text);
  assert.equal(answers[1].from, 0);
  assert.match(warnings.join(), /did not continue the download from byte \d+/);
});

test("a file that changed on the server meanwhile begins anew", async () => {
  server.slow = 20;
  void load().catch(() => undefined);
  while ((answers[0]?.sent ?? 0) < 8 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await page.close();
  Object.assign(server, { slow: 0, tag: '"another"' });
  page = await tab();
  assert.ok((await load()).text);
  assert.deepEqual(answers.slice(1).map((a) => a.from > 0), [true, false], "a piece of it was offered and not taken");
});

test("a flipped byte is refused, and a retry starts clean", async () => {
  server.flip = true;
  const error = await load();
  assert.deepEqual([error.name, error.code], ["IntegrityError", "integrity"]);
  assert.match(error.message, new RegExp(`model.safetensors: expected SHA-256 ${sha256}, found [0-9a-f]{64}`));
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
  server.flip = false;
  assert.ok((await load()).text);
  assert.equal(answers[1].from, 0, "nothing of the bad file is kept");
});

test("what was not checked is not trusted by a load that checks", async () => {
  server.flip = true;
  assert.ok((await load(page, { verify: false })).text, "verify: false takes what comes");
  server.flip = false;
  assert.ok((await load()).text);
  assert.deepEqual(answers.map((a) => a.from), [0, 0]);
  assert.ok((await load()).text);
  assert.equal(answers.length, 2, "now it is checked, and kept");
});

test("a cut connection to a server without ranges begins anew by itself", async () => {
  Object.assign(server, { ranges: false, cut_after: 9 << 20, linger: 1000 });
  assert.ok((await load()).text);
  assert.deepEqual(answers.map((a) => [a.from, a.sent]), [[0, 9 << 20], [0, bytes.length]]);
});

test("a model that is deleted while it loads is not listed, and loads", async () => {
  server.slow = 20;
  const other = await tab();
  const loading = load();
  while ((answers[0]?.sent ?? 0) < 12 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
  await other.evaluate(() => gpt2.deleteModel("/models/big"));
  const { text, warnings } = await loading;
  assert.ok(text);
  assert.match(warnings.join(), /not cached: .*was deleted, or is written by another tab/);
  assert.ok((server.slow = 0, await load()).text, "and a later visit is not harmed");
});

test("a malformed file is not kept: once the server has mended it, a retry works", async () => {
  const good = bytes;
  bytes = bytes.subarray(0, bytes.length - 1000); // whole as far as the server knows
  try {
    server.tag = undefined;
    const error = await load();
    assert.equal(error.code, "checkpoint");
  } finally {
    bytes = good;
  }
  assert.ok((await load()).text);
});

test("a chunk that the browser has lost is told, and fetched again on a retry", async () => {
  assert.ok((await load()).text);
  await page.evaluate(async () => {
    const db = await new Promise((resolve, reject) => Object.assign(indexedDB.open("gpt2-web"), { onsuccess: (e) => resolve(e.target.result), onerror: reject }));
    const chunks = db.transaction("chunks", "readwrite").objectStore("chunks");
    await new Promise((resolve) => (chunks.getAllKeys().onsuccess = (e) => (chunks.delete(e.target.result.find(([, file, i]) => file === "model.safetensors" && i === 2)).onsuccess = resolve)));
    db.close();
  });
  const error = await load();
  assert.equal(error.code, "integrity");
  assert.match(error.message, /model\.safetensors: the browser has lost a part/);
  assert.ok((await load()).text);
  assert.deepEqual(answers.map((a) => a.from), [0, 0]);
});

test("a busy server is asked again, no sooner than it wants", async () => {
  server.status = [[503, {}], [429, { "Retry-After": "1", "Access-Control-Expose-Headers": "Retry-After" }]];
  const start = performance.now();
  assert.ok((await load()).text);
  assert.ok(performance.now() - start > 1400);
  assert.deepEqual(answers.map((a) => a.status), [503, 429, undefined]);
});

test("a server that refuses is not asked again", async () => {
  server.status = [[403, {}], [403, {}]];
  const error = await load();
  assert.deepEqual([error.name, error.code], ["NetworkError", "network"]);
  assert.match(error.message, /HTTP status 403: the model is private/);
  assert.equal(answers.length, 1);
});

test("two tabs load it once", async () => {
  server.slow = 5;
  const other = await tab();
  const [a, b] = await Promise.all([load(page), load(other)]);
  assert.ok(a.text && a.text === b.text);
  assert.equal(answers.length, 1);
});

test("no room: loading goes on without the cache and says so", async () => {
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(served.url).origin, quotaSize: 6 << 20 });
  const { text, warnings } = await load();
  assert.ok(text);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/big")), false);
});

test("deleting frees the space", async () => {
  const usage = () => page.evaluate(async () => (await gpt2.storageEstimate()).usage);
  await load();
  const [full] = await page.evaluate(() => gpt2.listModels());
  assert.ok(full.bytes >= bytes.length);
  const before = await usage();
  assert.ok(before >= bytes.length);
  await page.evaluate(() => gpt2.deleteModel("/models/big"));
  assert.deepEqual(await page.evaluate(() => gpt2.listModels()), []);
  // the browser gives the space back when it gets round to it
  for (let i = 0; i < 100 && (await usage()) > before - bytes.length / 2; i++) await page.waitForTimeout(100);
  assert.ok((await usage()) < before - bytes.length / 2, `${await usage()} of ${before} bytes still used`);
});
