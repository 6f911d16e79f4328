// Downloads that go wrong: cut, changed on the way, refused, raced by another tab. In a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BIG, BIG_WEIGHTS, serveBigModel } from "./big-model.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, untilRead, untilStored } from "./tab.mjs";
import { until } from "./until.mjs";

/** Bytes of one stored chunk. */
const CHUNK = 4 << 20;
/** Where a download is held back: two chunks are stored by then, and the third has begun. */
const HELD = 9 << 20;
const stage = await openStageWithFreshTab();
const server = serveBigModel(stage);
const load = (options, how) => loadAndWrite(stage.page, BIG, options, how);
const isCached = () => stage.page.evaluate((model) => gpt2.isCached(model), BIG);

/** A visit whose tab is closed when two chunks are stored. */
async function visitInPart() {
  server.holdAfter = HELD;
  void load().catch(() => undefined); // ends with its page
  await untilStored(stage.page, BIG, 2 * CHUNK);
  await stage.visitAgain();
  server.release();
}

test("a connection that is cut goes on where it broke, at any place", { timeout: 240_000 }, async () => {
  for (const place of [100, CHUNK - 1, CHUNK, HELD, 20 << 20]) {
    await stage.renew();
    server.reset();
    server.holdAfter = place;
    const loading = load({}, { isCounted: true });
    await untilRead(stage.page, BIG_WEIGHTS, place);
    server.cut();
    const result = await loading;
    assert.ok(result.text, `cut after ${place}: ${result.message}`);
    assert.deepEqual(
      server.answers.map(({ from, sent }) => [from, sent]),
      [
        [0, place],
        [place, server.bytes.length - place],
      ],
      "not one byte twice",
    );
  }
});

test("a closed tab goes on at the next visit, at the chunk where it was", async () => {
  await visitInPart();
  assert.ok((await load()).text);
  const [, { from, sent }] = server.answers;
  assert.deepEqual([from, from + sent], [2 * CHUNK, server.bytes.length]);
});

test("an abort keeps what arrived, to the byte, and closes the connection", async () => {
  server.holdAfter = HELD;
  const aborted = load({}, { isCounted: true });
  await untilRead(stage.page, BIG_WEIGHTS, HELD);
  await stage.page.evaluate(() => controller.abort());
  assert.equal((await aborted).name, "AbortError");
  await until("the connection is closed", () => server.nOpen === 0);
  assert.equal(await isCached(), false);
  server.release();
  assert.ok((await load()).text);
  const [, { from, sent }] = server.answers;
  assert.deepEqual([from, from + sent], [HELD, server.bytes.length]);
});

test("a server without ranges begins anew, and says so", async () => {
  await visitInPart();
  server.hasRanges = false;
  const { text, warnings } = await load();
  assert.ok(text);
  assert.equal(server.answers[1].from, 0);
  assert.match(warnings.join(), /did not continue the download from byte \d+/);
});

test("a file that changed on the server meanwhile begins anew", async () => {
  await visitInPart();
  server.tag = '"another"';
  assert.ok((await load()).text);
  const begun = server.answers.slice(1).map((answer) => answer.from > 0);
  assert.deepEqual(begun, [true, false], "a piece of it was offered and not taken");
});

for (const hasThread of [true, false]) {
  const where = hasThread ? "in a thread of its own" : "in the worker, where that thread does not start";
  test(`a flipped byte is refused, and a retry starts clean: SHA-256 ${where}`, async () => {
    const isScript = (url) => url.endsWith("/hash-thread.js");
    const serveModel = stage.served.hooks.intercept;
    stage.served.hooks.intercept = (request, response) => {
      if (hasThread || !isScript(request.url)) return serveModel(request, response);
      response.writeHead(404).end();
      return true;
    };
    stage.served.requests.length = 0;
    try {
      server.flip = true;
      const error = await load();
      assert.deepEqual([error.name, error.code], ["IntegrityError", "integrity"]);
      const words = new RegExp(`model.safetensors: expected SHA-256 ${server.sha256}, found [0-9a-f]{64}`);
      assert.match(error.message, words);
      assert.equal(await isCached(), false);
      server.flip = false;
      assert.ok((await load()).text);
      assert.equal(server.answers[1].from, 0, "nothing of the bad file is kept");
      assert.ok(stage.served.requests.some(isScript), "the thread was started");
    } finally {
      stage.served.hooks.intercept = serveModel;
    }
  });
}

test("what was not checked is not trusted by a load that checks", async () => {
  server.flip = true;
  assert.ok((await load({ verify: false })).text, "verify: false takes what comes");
  server.flip = false;
  assert.ok((await load()).text);
  assert.deepEqual(
    server.answers.map((answer) => answer.from),
    [0, 0],
  );
  assert.ok((await load()).text);
  assert.equal(server.answers.length, 2, "now it is checked, and kept");
});

test("a cut connection to a server without ranges begins anew by itself", async () => {
  server.hasRanges = false;
  server.holdAfter = HELD;
  const loading = load({}, { isCounted: true });
  await untilRead(stage.page, BIG_WEIGHTS, HELD);
  server.cut();
  assert.ok((await loading).text);
  assert.deepEqual(
    server.answers.map(({ from, sent }) => [from, sent]),
    [
      [0, HELD],
      [0, server.bytes.length],
    ],
  );
});

test("a model that is deleted while it loads is not listed, and loads", async () => {
  server.holdAfter = HELD;
  const other = await stage.tab();
  const loading = load();
  await untilStored(stage.page, BIG, 2 * CHUNK);
  await other.evaluate((model) => gpt2.deleteModel(model), BIG);
  server.release();
  const { text, warnings } = await loading;
  assert.ok(text);
  assert.match(warnings.join(), /not cached: .*was deleted, or is written by another tab/);
  assert.deepEqual(await stage.page.evaluate(() => gpt2.listModels()), []);
  assert.ok((await load()).text, "and a later visit is not harmed");
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

test("a busy server is asked again, no sooner than it wants", async () => {
  server.statuses = [
    [503, {}],
    [429, { "Retry-After": "1", "Access-Control-Expose-Headers": "Retry-After" }],
  ];
  const start = performance.now();
  assert.ok((await load()).text);
  assert.ok(performance.now() - start > 1400);
  assert.deepEqual(
    server.answers.map((answer) => answer.status),
    [503, 429, undefined],
  );
});

test("a server that refuses is not asked again", async () => {
  server.statuses = [
    [403, {}],
    [403, {}],
  ];
  const error = await load();
  assert.deepEqual([error.name, error.code], ["NetworkError", "network"]);
  assert.match(error.message, /HTTP status 403: the model is private/);
  assert.equal(server.answers.length, 1);
});

test("two tabs load it once", async () => {
  server.holdAfter = HELD;
  const other = await stage.tab();
  const first = load();
  await until("the first tab has asked for the weights", () => server.answers.length === 1);
  const second = loadAndWrite(other, BIG);
  const waiting = () => other.evaluate(async () => (await navigator.locks.query()).pending.length);
  await until("the second tab waits for the first", async () => (await waiting()) === 1);
  server.release();
  const [a, b] = await Promise.all([first, second]);
  assert.ok(a.text, a.message);
  assert.equal(b.text, a.text);
  assert.equal(server.answers.length, 1);
});
