// Servers that answer otherwise than one would think: what they refuse, hide, compress or sign. In a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { answerPlainly, FILES, OPEN, openOddServer } from "./odd-server.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite } from "./tab.mjs";

const WEIGHTS = "model.safetensors";
const N_BYTES = FILES[WEIGHTS].length;
const stage = await openStageWithFreshTab();
const server = await openOddServer();
const load = (options, model = server.url) => loadAndWrite(stage.page, model, options);
const estimate = (options = {}) =>
  stage.page.evaluate(
    ([model, options]) => gpt2.estimate(model, { device: "wasm", ...options }),
    [server.url, options],
  );

/** Loads with and without the cache; what is written is what the model writes from any server. */
async function assertLoads(model) {
  const expected = await load({ cache: false }, "demo");
  assert.ok(expected.text, expected.message);
  for (const cache of [false, true]) {
    const { text, message } = await load({ cache }, model);
    assert.equal(text, expected.text, message);
  }
}

/** Answers with a file, and cuts the connection after so many bytes of it. */
function cutAfter(n, response, bytes) {
  response.writeHead(200, { ...OPEN, "Content-Length": bytes.length, "Content-Type": "binary/octet-stream" });
  response.write(bytes.subarray(0, n), () => response.socket.end());
}

for (const status of [400, 401, 403, 410]) {
  test(`${status} for an optional file says that it is not there`, async () => {
    server.set((_, response, { bytes }) => (bytes ? false : void response.writeHead(status, OPEN).end()));
    await assertLoads();
  });
}

test("a file that is needed and refused is named with its status and address", async () => {
  server.set((_, response, { file }) => (file === WEIGHTS ? void response.writeHead(403, OPEN).end() : false));
  const weights = await load();
  assert.equal(weights.code, "network");
  assert.ok(weights.message.startsWith(`${server.url}${WEIGHTS}: `), weights.message);
  assert.match(weights.message, /HTTP status 403/);
  for (const status of [401, 403]) {
    server.set((_, response) => void response.writeHead(status, OPEN).end());
    const { message } = await load();
    assert.match(message, new RegExp(`config\\.json: .*HTTP status ${status}: the model is private, gated`));
  }
});

for (const status of [403, 405, 501, null]) {
  test(`HEAD is answered with ${status ?? "nothing"}: a question for one byte tells the size`, async () => {
    server.set((request, response) => {
      if (request.method !== "HEAD") return false;
      if (status === null) response.destroy();
      else response.writeHead(status, OPEN).end();
    });
    await assertLoads();
    await stage.renew();
    const { download_bytes: bytes, problems } = await estimate();
    const small = FILES["config.json"].length + FILES["tokenizer.json"].length;
    assert.deepEqual([bytes >= N_BYTES && bytes <= N_BYTES + small, problems], [true, []], `${bytes}`);
  });
}

test("a range that is not exposed: a cut download goes on without harm", async () => {
  let nCuts = 0;
  server.set((request, response, wanted) => {
    if (wanted.file !== WEIGHTS || request.method === "HEAD" || nCuts > 0) return false;
    nCuts += 1;
    cutAfter(1_000_000, response, wanted.bytes);
  });
  await assertLoads();
  assert.equal(nCuts, 1);
});

test("a server that answers a question for a part with another part does no harm", async () => {
  let nCuts = 0;
  server.set((request, response, wanted) => {
    if (wanted.file !== WEIGHTS || request.method === "HEAD") return false;
    if (nCuts === 0) {
      nCuts += 1;
      return cutAfter(1_000_000, response, wanted.bytes);
    }
    if (!/^bytes=[1-9]/.test(request.headers.range ?? "")) return false;
    const wrong = wanted.bytes.subarray(5);
    response.writeHead(206, { ...OPEN, "Content-Length": wrong.length }).end(wrong);
  });
  const [expected, found] = [await load({ cache: false }, "demo"), await load()];
  assert.equal(found.text, expected.text, found.message);
});

test("questions that need a permission fail: everything is asked for without them", async () => {
  const refuse = () => {
    const { fetch } = globalThis;
    globalThis.fetch = (url, init) =>
      init?.headers?.Range ? Promise.reject(new TypeError("Failed to fetch")) : fetch(url, init);
  };
  let nCuts = 0;
  server.set((request, response, wanted) => {
    if (wanted.file !== WEIGHTS || request.method === "HEAD" || nCuts > 0) return false;
    nCuts += 1;
    cutAfter(1_000_000, response, wanted.bytes);
  });
  const text = await stage.page.evaluate(
    async ([url, refuse]) => {
      const generator = await gpt2.createGenerator(url, { device: "wasm", worker: workerAfter(refuse) });
      const few = { max_new_tokens: 8, do_sample: false, eos_token_id: null };
      const { text } = await generator.complete("The old king", few);
      await generator.dispose();
      return text;
    },
    [server.url, refuse.toString()],
  );
  assert.equal(text, (await load({ cache: false }, "demo")).text);
  assert.equal(nCuts, 1);
});

for (const exposed of ["", "Content-Encoding"]) {
  test(`compressed files, ${exposed ? "and said so" : "which is hidden"}: their lengths are not compared`, async () => {
    server.set((request, response, { bytes }) => {
      if (!bytes) return false;
      const body = gzipSync(bytes);
      response.writeHead(200, {
        ...OPEN,
        "Access-Control-Expose-Headers": exposed,
        "Content-Encoding": "gzip",
        "Content-Type": "application/octet-stream",
        "Content-Length": body.length,
      });
      response.end(request.method === "HEAD" ? undefined : body);
    });
    await assertLoads();
  });
}

test("what signs a folder's address goes to every file, and nowhere else", async () => {
  const sig = "?sig=SECRET&expires=1";
  server.set((_, response, { query }) => (query === sig ? false : void response.writeHead(403, OPEN).end()));
  const url = `${server.url}${sig}`;
  const { text, message } = await load({}, url);
  assert.ok(text, message);
  const told = await stage.page.evaluate(async (url) => {
    const events = [];
    const options = { device: "wasm", progress_callback: (event) => events.push(event) };
    const generator = await gpt2.createGenerator(url, options);
    await generator.dispose();
    const isOther = await gpt2.isCached(url.replace("SECRET", "ANOTHER"));
    return { isOther, all: JSON.stringify([events, generator.info, await gpt2.listModels()]) };
  }, url);
  assert.equal(told.isOther, true, "another signature is the same model");
  assert.ok(!told.all.includes("SECRET"), told.all);
  server.set((_, response) => void response.writeHead(500, OPEN).end());
  const failed = await load({ cache: false }, url);
  assert.equal(failed.code, "network");
  assert.ok(!failed.message.includes("SECRET"), failed.message);
});

test("416 to everything ends", async () => {
  server.set((_, response) => void response.writeHead(416, OPEN).end());
  const { code, message } = await load();
  assert.equal(code, "network");
  assert.match(message, /HTTP status 416/);
});

test("416 to the rest of a file begins it anew, once", async () => {
  let nCuts = 0;
  server.set((request, response, wanted) => {
    if (wanted.file !== WEIGHTS || request.method === "HEAD") return false;
    if (nCuts++ === 0) return cutAfter(1_000_000, response, wanted.bytes);
    return request.headers.range ? void response.writeHead(416, OPEN).end() : false;
  });
  await assertLoads();
});

test("a page in the place of files that are not there is no file; in the place of one that is needed it is named", async () => {
  const page = "<!-- an app -->\n<!DOCTYPE html><title>app</title>";
  const answerPage = (response, type) => void response.writeHead(200, { ...OPEN, "Content-Type": type }).end(page);
  for (const type of ["text/html", "application/octet-stream"]) {
    server.set((_, response, { bytes }) => (bytes ? false : answerPage(response, type)));
    await assertLoads();
    server.set((_, response, { file }) => (file === WEIGHTS ? answerPage(response, type) : false));
    const { code, message } = await load({ cache: false });
    assert.equal(code, "checkpoint");
    assert.match(message, /model\.safetensors: expected .*found a web page \(HTML\) at http/);
  }
});

test("files of the wrong type are files", async () => {
  server.set((request, response, wanted) => {
    answerPlainly(request, response, wanted, { "Content-Type": "text/html" });
  });
  await assertLoads();
});

test("redirects are followed", async () => {
  server.set((request, response, { file, bytes }) => {
    if (!bytes || file.startsWith("elsewhere/")) return false;
    if (new URL(request.url, server.url).searchParams.has("moved")) return false;
    response.writeHead(307, { ...OPEN, Location: `${request.url}?moved` }).end();
  });
  await assertLoads();
});
