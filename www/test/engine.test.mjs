// The CPU engine in a browser: each of its modules (relaxed SIMD or not, one thread or several) against transformers'
// answers, for every golden model.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { WWW, site } from "./site.mjs";

const GOLDEN = path.join(WWW, "../tests/golden/models");
let browser, served;

before(async () => {
  served = await site();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  served?.close();
});

/** A golden model's files as base64, with a tokenizer that it does not use: prompts are ids. */
function model(name) {
  const files = readdirSync(path.join(GOLDEN, name)).filter((file) => !file.startsWith("expected"));
  const encoded = files.map((file) => [file, readFileSync(path.join(GOLDEN, name, file), "base64")]);
  return [...encoded, ["tokenizer.json", readFileSync(path.join(WWW, "demo/tokenizer.json"), "base64")]];
}

const answers = (name) => JSON.parse(readFileSync(path.join(GOLDEN, name, "expected.json"), "utf8"));

/** A page that gets the baseline module instead of the relaxed one, or that is not isolated. */
async function open({ baseline = false, isolated = true }) {
  served.hooks.intercept = (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    if (!isolated) {
      const write = response.writeHead.bind(response);
      response.writeHead = (status, headers = {}) => {
        const kept = Object.entries(headers).filter(([name]) => !name.startsWith("Cross-Origin-"));
        return write(status, Object.fromEntries(kept));
      };
    }
    if (!baseline || !pathname.includes("/kernels-relaxed")) return false;
    response.end(readFileSync(path.join(served.root, pathname.replace("-relaxed", ""))));
    return true;
  };
  const page = await (await browser.newContext()).newPage();
  await page.goto(served.url);
  await page.evaluate(async () => (window.gpt2 = await import("/package/dist/index.js")));
  return page;
}

/** Writes greedily from a model's golden prompt. */
const write = (page, name, options) => {
  const { ids, greedy } = answers(name);
  return page.evaluate(
    async ({ files, ids, n, options }) => {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const model = { files: Object.fromEntries(files.map(([file, text]) => [file, new Blob([bytes(text)])])) };
      const generator = await gpt2.createGenerator(model, { device: "wasm", ...options });
      const { token_ids } = await generator.complete(ids, { do_sample: false, max_new_tokens: n, eos_token_id: null, context_overflow: "stop" });
      await generator.dispose();
      return { token_ids, info: generator.info };
    },
    { files: model(name), ids, n: greedy.length, options },
  );
};

const models = readdirSync(GOLDEN);
assert.ok(models.length >= 13);

for (const { name, ...how } of [
  { name: "relaxed SIMD, shared memory" },
  { name: "baseline SIMD, shared memory", baseline: true },
  { name: "relaxed SIMD, not isolated", isolated: false },
  { name: "baseline SIMD, not isolated", baseline: true, isolated: false },
]) {
  test(`greedy ids equal those of transformers: ${name}`, { timeout: 120_000 }, async () => {
    const page = await open(how);
    assert.equal(await page.evaluate(() => crossOriginIsolated), how.isolated ?? true);
    for (const name of models) {
      for (const threads of how.isolated === false ? [1] : [1, 2]) {
        const { token_ids, info } = await write(page, name, { dtype: "fp32", threads });
        assert.deepEqual(token_ids, answers(name).greedy, `${name} with ${threads} threads`);
        assert.deepEqual([info.threads, info.dtype], [threads, "fp32"]);
        assert.match(info.self_test, /^passed/);
      }
    }
    await page.context().close();
  });
}

test("every format passes its self-test, and its weights take what it says", async () => {
  const page = await open({});
  const found = [];
  for (const dtype of ["fp32", "fp16", "q8", "q4"]) {
    const { info } = await write(page, "base", { dtype });
    assert.match(info.self_test, /^passed/);
    found.push(info.weight_bytes);
  }
  assert.deepEqual(found, found.toSorted((a, b) => b - a), "each smaller than the one before");
  const { info } = await write(page, "base", { threads: "auto" });
  assert.equal(info.dtype, "q8");
  assert.ok(info.threads >= 1);
});

test("more threads than a page that is not isolated can have is told, not refused", async () => {
  const page = await open({ isolated: false });
  const { info } = await write(page, "base", { threads: 4 });
  assert.equal(info.threads, 1);
  assert.match(info.warnings.join(), /cross-origin isolated/);
});
