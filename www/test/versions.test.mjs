// Models whose files change on the server, and files whose hash cannot be asked for. In a real browser.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { FILES, openOddServer } from "./odd-server.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, untilRead } from "./tab.mjs";

const WEIGHTS = "model.safetensors";
const stage = await openStageWithFreshTab();
const server = await openOddServer();
const load = (options, model = server.url) => loadAndWrite(stage.page, model, options);
const listModels = () => stage.page.evaluate(() => gpt2.listModels());
const isCached = (dtype) => stage.page.evaluate(([url, dtype]) => gpt2.isCached(url, { dtype }), [server.url, dtype]);

/** The server has another configuration from now on, which means the same. */
function changeConfig(more = () => false) {
  const changed = Buffer.concat([FILES["config.json"], Buffer.from("\n")]);
  server.set((request, response, wanted) => {
    if (wanted.file === "config.json") wanted.bytes = changed;
    return more(request, response, wanted);
  });
}

test("a configuration that changed on the server: the load begins again by itself, and says so", async () => {
  server.set(() => false);
  const q8 = await load({ dtype: "q8" });
  assert.ok(q8.text, q8.message);
  changeConfig();
  const fp32 = await load({ dtype: "fp32" });
  assert.ok(fp32.text, fp32.message);
  assert.match(fp32.warnings.join(), /config\.json: it changed on the server .*loaded anew/);
  assert.deepEqual([await isCached("fp32"), await isCached("q8")], [true, false], "the old version is gone");
  const [model, ...others] = await listModels();
  assert.deepEqual([model.complete, others], [true, []]);
  assert.deepEqual((await load({ dtype: "fp32" })).warnings, []);
});

test("what is whole stays until its replacement is whole", async () => {
  server.set(() => false);
  const before = await load({ dtype: "q8" });
  changeConfig((_, response, { file }) => (file === WEIGHTS ? void response.writeHead(403).end() : false));
  const failed = await load({ dtype: "fp32" });
  assert.equal(failed.code, "network");
  assert.equal(await isCached("q8"), true);
  assert.equal((await load({ dtype: "q8" })).text, before.text);
  const listed = await listModels();
  assert.deepEqual(
    listed.map(({ complete, dtypes }) => [complete, dtypes]),
    [[true, ["q8"]]],
    "a replacement that is not whole is no model of its own",
  );
  await stage.page.evaluate((url) => gpt2.deleteModel(url), server.url);
  assert.deepEqual(await listModels(), []);
});

/** A hub on the page's own server, whose pointers are answered by `pointer(response)`. */
function serveHub(pointer) {
  const asked = [];
  stage.served.hooks.intercept = (request, response) => {
    const [, kind, file] = /^\/some\/gpt2\/(resolve|raw)\/main\/(.+)$/.exec(request.url) ?? [];
    if (request.method === "GET" && kind) asked.push(`${kind} ${file}`);
    if (kind === "resolve") response.writeHead(302, { Location: `/models/whole/${file}` }).end();
    if (kind === "raw") pointer(response);
    return kind !== undefined;
  };
  return asked;
}

test("a hash that cannot be asked for: the file is kept unverified, and verified at a later visit", async () => {
  const options = { remote_host: new URL(stage.served.url).origin };
  const refuse = (response) => response.writeHead(403).end();
  serveHub(refuse);
  const first = await load(options, "some/gpt2");
  assert.match(first.warnings.join(), /model\.safetensors: its SHA-256 could not be asked for \(HTTP status 403\)/);
  assert.match((await load(options, "some/gpt2")).warnings.join(), /could not be asked for/);

  const digest = createHash("sha256").update(FILES[WEIGHTS]).digest("hex");
  const tell = (hash) => (response) =>
    response.end(`version https://git-lfs.github.com/spec/v1\noid sha256:${hash}\nsize ${FILES[WEIGHTS].length}\n`);
  const asked = serveHub(tell(digest));
  const later = await load(options, "some/gpt2");
  assert.deepEqual([later.text, later.warnings], [first.text, []], later.message);
  assert.ok(!asked.includes(`resolve ${WEIGHTS}`), "it is read from the cache");
  asked.length = 0;
  assert.equal((await load(options, "some/gpt2")).text, first.text);
  assert.deepEqual(asked, [], "now it is verified for good");
});

test("a file that turns out to be wrong at that later visit is dropped", async () => {
  const options = { remote_host: new URL(stage.served.url).origin };
  serveHub((response) => response.writeHead(403).end());
  await load(options, "some/gpt2");
  serveHub((response) =>
    response.end(`version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1\n`),
  );
  assert.equal((await load(options, "some/gpt2")).code, "integrity");
  serveHub((response) => response.writeHead(404).end());
  assert.ok((await load(options, "some/gpt2")).text, "fetched anew");
});

for (const tags of [
  ['"one"', '"two"'],
  ['W/"one"', 'W/"two"'],
  [undefined, undefined],
]) {
  test(`a file that changes while it is fetched, with tags ${tags}, begins again and is not mixed`, async () => {
    const other = Buffer.from(FILES[WEIGHTS]);
    other.fill(0, 500_000, other.length - 1000);
    let nAnswers = 0;
    let cut = () => {};
    server.set((request, response, { file, bytes }) => {
      if (file !== WEIGHTS || request.method === "HEAD") return false;
      nAnswers += 1;
      const [tag, served] = nAnswers === 1 ? [tags[0], other] : [tags[1], bytes];
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "ETag, Content-Range",
        ...(tag ? { ETag: tag } : {}),
        ...(from > 0 ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
        "Content-Length": bytes.length - from,
      });
      if (nAnswers > 1) response.end(served.subarray(from));
      else {
        response.write(served.subarray(0, 1_000_000));
        cut = () => response.destroy();
      }
    });
    const loading = loadAndWrite(stage.page, server.url, { cache: false }, { isCounted: true });
    await untilRead(stage.page, `/model/${WEIGHTS}`, 1_000_000); // what is not read yet would be lost with the connection
    cut();
    const found = await loading;
    assert.equal(found.text, (await load({ cache: false }, "demo")).text, found.message);
    assert.match(found.warnings.join(), /it changed on the server while it was fetched, so the model was loaded anew/);
  });
}
