// Sharded checkpoints: several shards at once, each resumed by itself, fed in order. In a real browser.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { launch } from "./browser.mjs";
import { Flaky, safetensors, tensorsOf } from "./flaky.mjs";
import { WWW, site } from "./site.mjs";

const CHUNK = 4 << 20;
const PAD = 7 << 20;
const N_SHARDS = 6;
let browser, context, page, served, shards, index;
/** What all shards' answers are counted in. */
let all;

before(async () => {
  served = await site();
  browser = await launch();
  // the demo model dealt out to shards, each with a mask buffer before its tensors, so that there are chunks to resume at
  const tensors = tensorsOf(readFileSync(path.join(WWW, "demo/model.safetensors")));
  all = { n_open: 0, most_open: 0 };
  shards = new Map();
  const weight_map = {};
  for (let i = 0; i < N_SHARDS; i++) {
    const name = `model-0000${i + 1}-of-0000${N_SHARDS}.safetensors`;
    const pad = [`transformer.h.${i % 4}.attn.${i < 4 ? "bias" : "masked_bias"}`, { dtype: "U8", shape: [PAD], data: randomBytes(PAD) }];
    const own = [pad, ...tensors.filter((_, n) => n % N_SHARDS === i)];
    for (const [tensor] of own) weight_map[tensor] = name;
    shards.set(`/models/sharded/${name}`, new Flaky(safetensors(own), all));
  }
  const total_size = [...shards.values()].reduce((sum, shard) => sum + shard.bytes.length, 0);
  index = JSON.stringify({ metadata: { total_size }, weight_map });
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
  for (const shard of shards.values()) shard.reset();
  all.most_open = 0;
});

async function tab() {
  const page = await context.newPage();
  await page.goto(served.url);
  await page.evaluate(async () => (window.gpt2 = await import("/package/dist/index.js")));
  return page;
}

function intercept(request, response) {
  const redirect = /^\/models\/sharded\/(config|tokenizer)\.json$/.exec(request.url);
  if (redirect) response.writeHead(302, { Location: `/models/whole/${redirect[1]}.json` }).end();
  else if (request.url.endsWith("sharded/model.safetensors.index.json")) response.writeHead(200, { ETag: '"index"', "Content-Type": "application/json" }).end(index);
  else if (shards.has(request.url)) shards.get(request.url).answer(request, response);
  else return false;
  return true;
}

const load = (options = {}, on = page) =>
  on.evaluate(async (options) => {
    try {
      const generator = await gpt2.createGenerator("/models/sharded", { device: "wasm", ...options });
      const { text } = await generator.complete("The old king", { max_new_tokens: 8, do_sample: false, eos_token_id: null });
      await generator.dispose();
      return { text, warnings: generator.info.warnings };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message };
    }
  }, options);

const list = () => [...shards.values()];
const set = (settings) => list().forEach((shard) => Object.assign(shard, settings));
const sent = () => list().map((shard) => shard.answers.reduce((sum, a) => sum + a.sent, 0));
const until = async (is_so) => {
  while (!is_so()) await new Promise((resolve) => setTimeout(resolve, 20));
};

test("four shards at a time, each once", async () => {
  set({ slow: 10 });
  const { text, warnings } = await load();
  assert.deepEqual(warnings, []);
  assert.equal(all.most_open, 4);
  assert.deepEqual(sent(), list().map((shard) => shard.bytes.length));
  assert.equal(await page.evaluate(() => gpt2.isCached("/models/sharded")), true);
  assert.equal((await load()).text, text);
  assert.deepEqual(list().map((shard) => shard.answers.length), Array(N_SHARDS).fill(1), "the second time from the cache");
  assert.equal((await load({ cache: false })).text, text, "the same without a cache, one after the other");
});

test("a shard whose connection is cut goes on where it broke, and the others are left alone", async () => {
  Object.assign(list()[2], { cut_after: 5 << 20, linger: 1000 });
  Object.assign(list()[5], { cut_after: 100, linger: 1000 });
  assert.ok((await load()).text);
  assert.deepEqual(list().map((shard) => shard.answers.map((a) => a.from)), [[0], [0], [0, 5 << 20], [0], [0], [0, 100]]);
});

test("a closed tab goes on at the next visit with every shard where it was", async () => {
  set({ slow: 20 });
  void load().catch(() => undefined); // ends with its page
  await until(() => sent().slice(0, 4).every((n) => n > 6 << 20));
  await page.close();
  const before = sent();
  page = await tab();
  const [part] = await page.evaluate(() => gpt2.listModels());
  assert.equal(part.complete, false);
  assert.ok(part.bytes >= 4 * CHUNK && part.total_bytes >= N_SHARDS * PAD, `${part.bytes} of ${part.total_bytes}`);
  set({ slow: 0 });
  assert.ok((await load()).text);
  for (const [i, shard] of list().slice(0, 4).entries()) {
    const from = shard.answers[1].from;
    assert.ok(from >= CHUNK && from <= before[i], `shard ${i} from ${from}`);
  }
});

test("an abort stops all of them and keeps what arrived", async () => {
  set({ slow: 20 });
  const aborted = page.evaluate(() => {
    window.controller = new AbortController();
    return gpt2.createGenerator("/models/sharded", { device: "wasm", signal: controller.signal }).catch((e) => e.name);
  });
  await until(() => sent().slice(0, 4).every((n) => n > 5 << 20));
  await page.evaluate(() => controller.abort());
  assert.equal(await aborted, "AbortError");
  await until(() => all.n_open === 0);
  set({ slow: 0 });
  assert.ok((await load()).text);
  assert.ok(list().some((shard) => shard.answers.some((a) => a.from > 0)));
});

test("a bad shard is refused when its turn comes; a retry fetches that one only", async () => {
  list()[3].flip = true;
  const error = await load();
  assert.equal(error.code, "integrity");
  assert.match(error.message, /model-00004-of-00006\.safetensors: expected SHA-256/);
  list()[3].flip = false;
  assert.ok((await load()).text);
  assert.deepEqual(list().slice(0, 4).map((shard) => shard.answers.filter((a) => a.from === 0).length), [1, 1, 1, 2]);
});

for (const [status, code, words] of [[403, "network", "expected the file, found HTTP status 403"], [404, "checkpoint", "expected the shard"]]) {
  test(`a shard that is answered with ${status} is told when its turn comes`, async () => {
    list()[4].status = [[status, {}]];
    const error = await load();
    assert.equal(error.code, code);
    assert.ok(error.message.includes("model-00005-of-00006.safetensors") && error.message.includes(words), error.message);
    assert.ok((await load()).text);
    assert.deepEqual(sent().slice(0, 4), list().slice(0, 4).map((shard) => shard.bytes.length), "the others are kept");
  });
}

test("no room: the rest comes straight from the network", async () => {
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(served.url).origin, quotaSize: 20 << 20 });
  const { text, warnings, message } = await load();
  assert.ok(text, message);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(warnings.length, 1, warnings.join("\n"));
  const [{ files }] = await page.evaluate(() => gpt2.listModels());
  assert.deepEqual(files.filter((file) => file.endsWith(".safetensors")), [], "what cannot become whole is not left behind");
});
