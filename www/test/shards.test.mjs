// Sharded checkpoints: several shards at once, each resumed by itself, fed in order. In a real browser.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { limitStorage } from "./browser.mjs";
import { paddedDemo, safetensors } from "./safetensors.mjs";
import { ServedFile } from "./served-file.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, untilRead, untilStored } from "./tab.mjs";
import { until } from "./until.mjs";

const MODEL = "/models/sharded";
const CHUNK = 4 << 20;
const PAD = 7 << 20;
/** Where a download is held back: of each shard one chunk is stored by then, and the second has begun. */
const HELD = 6 << 20;
const N_SHARDS = 6;
/** So many are fetched at once. */
const N_AT_ONCE = 4;

const stage = await openStageWithFreshTab();
/** What all shards' answers are counted in. */
const all = { nOpen: 0, mostOpen: 0 };
const tensorsOfShards = paddedDemo(N_SHARDS, PAD);
const names = tensorsOfShards.map((_, i) => `model-0000${i + 1}-of-0000${N_SHARDS}.safetensors`);
const shards = tensorsOfShards.map((tensors) => new ServedFile(safetensors(tensors), all));
const pathOf = (i) => `${MODEL}/${names[i]}`;
const index = JSON.stringify({
  metadata: { total_size: shards.reduce((sum, shard) => sum + shard.bytes.length, 0) },
  weight_map: Object.fromEntries(
    tensorsOfShards.flatMap((tensors, i) => tensors.map(([tensor]) => [tensor, names[i]])),
  ),
});

stage.served.hooks.intercept = (request, response) => {
  const small = /^\/models\/sharded\/(config|tokenizer)\.json$/.exec(request.url);
  const shard = shards.find((_, i) => request.url === pathOf(i));
  if (small) response.writeHead(302, { Location: `/models/whole/${small[1]}.json` }).end();
  else if (request.url === `${MODEL}/model.safetensors.index.json`) {
    response.writeHead(200, { ETag: '"index"', "Content-Type": "application/json" }).end(index);
  } else if (shard) shard.answer(request, response);
  else return false;
  return true;
};
beforeEach(() => {
  for (const shard of shards) shard.reset();
  all.mostOpen = 0;
});

const load = (options, how) => loadAndWrite(stage.page, MODEL, options, how);
const hold = (bytes) => {
  for (const shard of shards) shard.holdAfter = bytes;
};
const release = () => {
  for (const shard of shards) shard.release();
};
const sent = () => shards.map((shard) => shard.answers.reduce((sum, answer) => sum + answer.sent, 0));
/** For each shard where its answers began. */
const begun = () => shards.map((shard) => shard.answers.map((answer) => answer.from));
const lengths = shards.map((shard) => shard.bytes.length);

test("four shards at a time, each once", async () => {
  hold(CHUNK);
  const loading = load();
  await until("four shards are fetched at once", () => all.nOpen === N_AT_ONCE);
  release();
  const { text, warnings } = await loading;
  assert.deepEqual(warnings, []);
  assert.equal(all.mostOpen, N_AT_ONCE);
  assert.deepEqual(sent(), lengths);
  assert.equal(await stage.page.evaluate((model) => gpt2.isCached(model), MODEL), true);
  assert.equal((await load()).text, text);
  assert.deepEqual(begun(), Array(N_SHARDS).fill([0]), "the second time from the cache");
  assert.equal((await load({ cache: false })).text, text, "the same without a cache, one after the other");
});

test("a shard whose connection is cut goes on where it broke, and the others are left alone", async () => {
  shards[2].holdAfter = 5 << 20;
  shards[5].holdAfter = 100;
  const loading = load({}, { isCounted: true });
  for (const i of [2, 5]) {
    await untilRead(stage.page, pathOf(i), shards[i].holdAfter);
    shards[i].cut();
  }
  const { text, message } = await loading;
  assert.ok(text, message);
  assert.deepEqual(begun(), [[0], [0], [0, 5 << 20], [0], [0], [0, 100]]);
});

test("a closed tab goes on at the next visit with every shard where it was", async () => {
  hold(HELD);
  void load().catch(() => undefined); // ends with its page
  await untilStored(stage.page, MODEL, N_AT_ONCE * CHUNK);
  await stage.visitAgain();
  const [part] = await stage.page.evaluate(() => gpt2.listModels());
  assert.equal(part.complete, false);
  const isRight = part.bytes >= N_AT_ONCE * CHUNK && part.total_bytes >= N_SHARDS * PAD;
  assert.ok(isRight, `${part.bytes} of ${part.total_bytes}`);
  release();
  const { text, message } = await load();
  assert.ok(text, message);
  assert.deepEqual(begun(), [...Array(N_AT_ONCE).fill([0, CHUNK]), [0], [0]]);
});

test("an abort stops all of them and keeps what arrived, to the byte", async () => {
  hold(HELD);
  const aborted = load({}, { isCounted: true });
  for (let i = 0; i < N_AT_ONCE; i++) await untilRead(stage.page, pathOf(i), HELD);
  await stage.page.evaluate(() => controller.abort());
  assert.equal((await aborted).name, "AbortError");
  await until("all connections are closed", () => all.nOpen === 0);
  release();
  const { text, message } = await load();
  assert.ok(text, message);
  assert.deepEqual(begun(), [...Array(N_AT_ONCE).fill([0, HELD]), [0], [0]]);
});

test("a bad shard is refused when its turn comes; a retry fetches that one only", async () => {
  shards[3].flip = true;
  const error = await load();
  assert.equal(error.code, "integrity");
  assert.match(error.message, /model-00004-of-00006\.safetensors: expected SHA-256/);
  shards[3].flip = false;
  assert.ok((await load()).text);
  const anew = begun().map((from) => from.filter((n) => n === 0).length);
  assert.deepEqual(anew.slice(0, 4), [1, 1, 1, 2]);
});

for (const [status, code, words] of [
  [403, "network", "expected the file, found HTTP status 403"],
  [404, "checkpoint", "expected the shard"],
]) {
  test(`a shard that is answered with ${status} is told when its turn comes`, async () => {
    shards[4].statuses = [[status, {}]];
    const error = await load();
    assert.equal(error.code, code);
    assert.ok(error.message.includes(names[4]) && error.message.includes(words), error.message);
    assert.ok((await load()).text);
    assert.deepEqual(sent().slice(0, 4), lengths.slice(0, 4), "the others are kept");
  });
}

test("no room: the rest comes straight from the network", async () => {
  await limitStorage(stage.page, 20 << 20);
  const { text, warnings, message } = await load();
  assert.ok(text, message);
  assert.match(warnings.join(), /not cached: the browser's storage is full/);
  assert.equal(warnings.length, 1, warnings.join("\n"));
  const [{ files }] = await stage.page.evaluate(() => gpt2.listModels());
  const weights = files.filter((file) => file.endsWith(".safetensors"));
  assert.deepEqual(weights, [], "what cannot become whole is not left behind");
});
