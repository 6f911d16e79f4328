// Loading with the packed package in a real browser: from where, how far it has got, and what is told when it fails.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, test } from "node:test";
import { WWW } from "./site.mjs";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";
import { until } from "./until.mjs";

const { browser, served } = await openStage();
/** A tab with storage of its own, which is empty. */
const freshTab = async () => openTab(await browser.newContext(), served.url);
const page = await freshTab();
const run = (body, argument, on = page) => runInTab(on, body, argument);
afterEach(() => (served.hooks.intercept = undefined));

const GREEDY = { max_new_tokens: 24, do_sample: false, eos_token_id: null };

test("a folder served from localhost loads by URL, with progress, and again from the cache when offline", async () => {
  const own = await freshTab();
  const load = () =>
    run(
      async () => {
        const events = [];
        const generator = await gpt2.createGenerator("/models/whole", {
          device: "wasm",
          progress_callback: (e) => events.push(e),
        });
        const { text } = await generator.complete("Once upon a time", { max_new_tokens: 8, do_sample: false });
        await generator.dispose();
        return { text, events, cached: await gpt2.isCached("/models/whole"), models: await gpt2.listModels() };
      },
      null,
      own,
    );
  const first = await load();
  const total = first.events.filter((e) => e.status === "progress_total");
  assert.equal(total[0].progress, 0);
  assert.equal(total.at(-1).progress, 100);
  assert.ok(total.every((e, i) => i === 0 || e.progress >= total[i - 1].progress));
  const ready = first.events.findIndex((e) => e.status === "ready");
  assert.ok(
    first.events.slice(ready + 1).every((e) => e.phase === "keep"),
    "what is kept is told of behind it",
  );
  assert.deepEqual([first.events.at(-1).phase, first.events.at(-1).progress], ["keep", 100]);
  const weights = first.events.filter((e) => e.file === "model.safetensors");
  assert.deepEqual([weights[0].status, weights.at(-1).status, weights.at(-1).total], ["initiate", "done", 3872544]);
  assert.ok(first.cached);
  assert.equal(first.models[0].name, "/models/whole");
  // a byte for each of 1.9 million parameters, scales, the tokenizer; the checkpoint itself (two bytes each) is gone
  assert.deepEqual([first.models[0].dtypes, first.models[0].complete], [["q8"], true]);
  assert.ok(first.models[0].bytes > 1933760 && first.models[0].bytes < 3872544, `${first.models[0].bytes}`);
  assert.ok(!first.models[0].files.includes("model.safetensors"));

  const n_before = served.requests.filter((url) => url.startsWith("/models/")).length;
  await own.context().route("**/models/**", (route) => route.abort());
  const second = await load();
  assert.equal(second.text, first.text);
  assert.equal(served.requests.filter((url) => url.startsWith("/models/")).length, n_before);
  await own.context().unroute("**/models/**");
  await run(() => gpt2.deleteModel("/models/whole"), null, own);
  assert.deepEqual(await run(() => gpt2.listModels(), null, own), []);
  assert.equal(await run(() => gpt2.isCached("/models/whole"), null, own), false);
  await own.context().close();
});

test("an estimate tells the cost and the problems before anything large is fetched", async () => {
  const own = await freshTab();
  const estimate = (model, options = {}) =>
    run(({ model, options }) => gpt2.estimate(model, options), { model, options }, own);
  const large = () => served.requests.filter((url) => url.endsWith("model.safetensors")).length;
  const n_before = large();
  const cold = await estimate("/models/whole");
  assert.equal(large(), n_before);
  assert.ok(cold.download_bytes > 3872544 && cold.download_bytes < 3872544 + 400_000, `${cold.download_bytes}`);
  assert.deepEqual([cold.cached_bytes, cold.device, cold.dtype], [0, "wasm", "q8"]);
  assert.ok(cold.device_bytes > 1933760 && cold.device_bytes < 1.2 * 1933760, "a byte for each parameter, and scales");
  assert.ok(cold.storage.quota > 0);
  assert.match(cold.problems.join(), /^no GPU: .*software adapter/);
  assert.deepEqual((await estimate("/models/whole", { device: "webgpu" })).device, "webgpu");
  assert.match((await estimate("/models/llama")).problems.join(), /model_type.*llama/);
  assert.match((await estimate("/models/no-weights")).problems.join(), /model\.safetensors: expected this file/);

  await run(async () => (await gpt2.createGenerator("/models/whole", { device: "wasm" })).dispose(), null, own);
  const warm = await estimate("/models/whole", { device: "wasm" });
  assert.deepEqual([warm.download_bytes, warm.problems], [0, []]);
  assert.ok(
    warm.cached_bytes > cold.device_bytes && warm.cached_bytes < cold.download_bytes,
    "the packed weights and the small files",
  );
  const other = await estimate("/models/whole", { device: "wasm", dtype: "q4" });
  assert.ok(other.download_bytes >= 3872544, "another format is made from the checkpoint, which is fetched again");
  await own.context().close();
});

test("a hub tells the SHA-256 of a large file, and it is held to it", async () => {
  let digest = createHash("sha256")
    .update(readFileSync(path.join(WWW, "demo/model.safetensors")))
    .digest("hex");
  served.hooks.intercept = (request, response) => {
    const [, kind, file] = /^\/some\/gpt2\/(resolve|raw)\/main\/(.+)$/.exec(request.url) ?? [];
    if (kind === "resolve") response.writeHead(302, { Location: `/models/whole/${file}` }).end();
    if (kind === "raw")
      response.end(`version https://git-lfs.github.com/spec/v1\noid sha256:${digest}\nsize 3872544\n`);
    return kind !== undefined;
  };
  const load = () =>
    run((_, plain) =>
      gpt2
        .createGenerator("some/gpt2", { device: "wasm", cache: false, remote_host: location.origin })
        .then((g) => g.dispose(), plain),
    );
  assert.equal(await load(), undefined);
  const right = digest;
  digest = "0".repeat(64);
  const error = await load();
  assert.deepEqual([error.name, error.expected, error.found], ["IntegrityError", digest, right]);
});

test("files from disk, a hub id with a revision on a mirror, and a fetch of the caller's", async () => {
  served.hooks.intercept = (request, response) => {
    const prefix = "/some/gpt2/resolve/v1.0/";
    if (request.url.startsWith(prefix))
      response.writeHead(302, { Location: `/models/whole/${request.url.slice(prefix.length)}` }).end();
    return request.url.startsWith(prefix);
  };
  const r = await run(async (GREEDY) => {
    const write = async (model, options) => {
      const generator = await gpt2.createGenerator(model, { device: "wasm", cache: false, ...options });
      const { text } = await generator.complete("Once upon a time", GREEDY);
      await generator.dispose();
      return text;
    };
    const files = {};
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"])
      files[name] = await (await fetch(`/models/whole/${name}`)).blob();
    const asked = [];
    const ownFetch = (url, init) => {
      asked.push(url);
      return fetch(url, { ...init, headers: { authorization: "Bearer x" } });
    };
    return {
      demo: await write("demo"),
      record: await write({ files }),
      list: await write({ files: Object.entries(files).map(([name, blob]) => new File([blob], name)) }),
      hub: await write("some/gpt2", { revision: "v1.0", remote_host: location.origin }),
      fetched: await write("/models/whole", { fetch: ownFetch }),
      asked,
    };
  }, GREEDY);
  for (const name of ["record", "list", "hub", "fetched"]) assert.equal(r[name], r.demo, name);
  assert.ok(r.asked.some((url) => url.endsWith("/models/whole/model.safetensors")));
});

test("broken checkpoints are errors that name file, tensor, expected and found", async () => {
  const load = (name) =>
    run((name, plain) => gpt2.createGenerator(`/models/${name}`, { device: "wasm" }).then(() => "loaded", plain), name);
  const truncated = await load("truncated");
  assert.equal(truncated.name, "CheckpointError");
  assert.match(truncated.message, /model\.safetensors: expected 3872544 bytes.*found 3871544 bytes/);
  const shape = await load("other-width");
  assert.deepEqual([shape.name, shape.file], ["CheckpointError", "model.safetensors"]);
  assert.match(shape.message, /tensor `.+`: expected \[.+\], found \[.+\]/);
  assert.match((await load("no-weights")).message, /model\.safetensors: expected this file/);
  assert.match((await load("not-safetensors")).message, /web page/);
  const llama = await load("llama");
  assert.deepEqual([llama.name, llama.code, llama.field], ["UnsupportedModelError", "unsupported_model", "model_type"]);
  const nowhere = await load("nowhere");
  assert.deepEqual([nowhere.name, nowhere.file], ["CheckpointError", "config.json"]);
});

test("network failures: a status, a connection cut, an abort in mid-download", async () => {
  /** Answers a request for the weights. */
  let answer;
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("model.safetensors")) return false;
    answer(response);
    return true;
  };
  const attempt = () =>
    run((_, plain) => {
      const options = { device: "wasm", cache: false };
      return gpt2.createGenerator("/models/whole", options).then(() => "loaded", plain);
    });
  answer = (response) => response.writeHead(503).end();
  const status = await attempt();
  assert.deepEqual([status.name, status.code, status.status], ["NetworkError", "network", 503]);

  const HEAD = { "Content-Length": 3872544, "Content-Type": "application/octet-stream" };
  answer = (response) => response.writeHead(200, HEAD).write(Buffer.alloc(4), () => response.destroy());
  const cut = await attempt();
  assert.deepEqual([cut.name, cut.code], ["NetworkError", "network"], cut.message);

  let isAsked = false;
  answer = (response) => {
    isAsked = true;
    response.writeHead(200, HEAD).write(Buffer.from([64, 0, 0, 0, 0, 0, 0, 0])); // and then nothing
  };
  const aborted = run(async () => {
    window.controller = new AbortController();
    const { signal } = window.controller;
    const options = { device: "wasm", cache: false, signal };
    const error = await gpt2.createGenerator("/models/whole", options).catch((e) => e);
    return { name: error.name, isDom: error instanceof DOMException, ms: performance.now() - window.abortedMs };
  });
  await until("the weights are asked for", () => isAsked);
  await run(() => {
    window.abortedMs = performance.now();
    window.controller.abort();
  });
  const { ms, ...error } = await aborted;
  assert.deepEqual(error, { name: "AbortError", isDom: true });
  assert.ok(ms < 2000, `${ms} ms`);
});

test("a cache that cannot be used is told and does not stop loading", async () => {
  const own = await freshTab();
  const warnings = await run(
    async () => {
      // as in some private windows
      const deny = () => {
        const get = () => {
          throw new DOMException("denied", "SecurityError");
        };
        Object.defineProperty(globalThis, "indexedDB", { get });
      };
      const worker = workerAfter(deny.toString());
      const generator = await gpt2.createGenerator("/models/whole", { device: "wasm", worker });
      await generator.complete("x", { max_new_tokens: 1 });
      await generator.dispose();
      return generator.info.warnings;
    },
    null,
    own,
  );
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /not cached: IndexedDB cannot be used/);
  await own.context().close();
});
