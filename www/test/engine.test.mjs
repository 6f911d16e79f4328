// The CPU engine in a browser: each of its modules (relaxed SIMD or not, one thread or several) against transformers'
// answers, for every golden model.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { WWW, withoutIsolation } from "./site.mjs";
import { openStage } from "./stage.mjs";
import { openTab } from "./tab.mjs";

const GOLDEN = path.join(WWW, "../tests/golden/models");
const { browser, served } = await openStage();

/** A golden model's files as base64, with a tokenizer that it does not use: prompts are ids. */
function model(name) {
  const files = readdirSync(path.join(GOLDEN, name)).filter((file) => !file.startsWith("expected"));
  const encoded = files.map((file) => [file, readFileSync(path.join(GOLDEN, name, file), "base64")]);
  return [...encoded, ["tokenizer.json", readFileSync(path.join(WWW, "demo/tokenizer.json"), "base64")]];
}

const answers = (name) => JSON.parse(readFileSync(path.join(GOLDEN, name, "expected.json"), "utf8"));

/** The worker in a browser without relaxed SIMD: its opcodes, which begin with fd 8x 02, are no valid WebAssembly there. */
const WITHOUT_RELAXED_SIMD = `{
  const { validate } = WebAssembly;
  const isRelaxed = (code) => code.some((byte, i) => byte === 0xfd && code[i + 1] >> 4 === 8 && code[i + 2] === 2);
  WebAssembly.validate = (code) => !isRelaxed(new Uint8Array(code)) && validate.call(WebAssembly, code);
}
`;

/** A page in a browser that knows no relaxed SIMD, or that is not isolated, and the names of the kernels that it fetched. */
async function open({ baseline = false, isolated = true }) {
  const kernels = new Set();
  served.hooks.intercept = (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    if (pathname.includes("/kernels")) kernels.add(path.basename(pathname));
    if (!isolated) withoutIsolation(response);
    if (!baseline || !pathname.endsWith("/worker.js")) return false;
    response.setHeader("Content-Type", "text/javascript");
    if (isolated) response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    response.end(WITHOUT_RELAXED_SIMD + readFileSync(path.join(served.root, pathname), "utf8"));
    return true;
  };
  return Object.assign(await openTab(await browser.newContext(), served.url), { kernels });
}

/** Writes greedily from a model's golden prompt. */
const write = (page, name, options) => {
  const { ids, greedy } = answers(name);
  return page.evaluate(
    async ({ files, ids, n, options }) => {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const model = { files: Object.fromEntries(files.map(([file, text]) => [file, new Blob([bytes(text)])])) };
      const generator = await gpt2.createGenerator(model, { device: "wasm", ...options });
      const { token_ids } = await generator.complete(ids, {
        do_sample: false,
        max_new_tokens: n,
        eos_token_id: null,
        context_overflow: "stop",
      });
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
    const simd = how.baseline ? "" : "-relaxed";
    assert.deepEqual([...page.kernels], [`kernels${simd}${how.isolated === false ? "" : "-threads"}.wasm`]);
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
  assert.deepEqual(
    found,
    found.toSorted((a, b) => b - a),
    "each smaller than the one before",
  );
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

test("a cancel in the midst of a long prompt is heard within 50 ms, and progress is told", {
  timeout: 120_000,
}, async () => {
  const page = await open({});
  const r = await page.evaluate(
    async ({ tokenizer }) => {
      // large enough that a prompt takes long; all zeros, since nobody looks at what it writes
      const [n_layer, c, vocab_size, n_positions] = [6, 768, 2000, 1024];
      const header = {};
      let end = 0;
      const tensor = (name, ...shape) => {
        const begin = end;
        end += shape.reduce((n, d) => n * d, 2);
        header[name] = { dtype: "F16", shape, data_offsets: [begin, end] };
      };
      const both = (name, ...shape) => {
        tensor(`${name}.weight`, ...shape);
        tensor(`${name}.bias`, shape.at(-1));
      };
      tensor("wte.weight", vocab_size, c);
      tensor("wpe.weight", n_positions, c);
      for (let i = 0; i < n_layer; i++) {
        for (const norm of ["ln_1", "ln_2"]) both(`h.${i}.${norm}`, c);
        for (const [name, k, n] of [
          ["attn.c_attn", c, 3 * c],
          ["attn.c_proj", c, c],
          ["mlp.c_fc", c, 4 * c],
          ["mlp.c_proj", 4 * c, c],
        ])
          both(`h.${i}.${name}`, k, n);
      }
      both("ln_f", c);
      const json = new TextEncoder().encode(JSON.stringify(header));
      const files = {
        "config.json": new Blob([
          JSON.stringify({ model_type: "gpt2", n_layer, n_embd: c, n_head: 12, vocab_size, n_positions }),
        ]),
        "tokenizer.json": new Blob([Uint8Array.from(atob(tokenizer), (ch) => ch.charCodeAt(0))]),
        "model.safetensors": new Blob([BigUint64Array.of(BigInt(json.length)), json, new Uint8Array(end)]),
      };
      const generator = await gpt2.createGenerator({ files }, { device: "wasm", dtype: "q8", threads: 1 });
      const ids = Array.from({ length: 1000 }, (_, i) => (i * 7) % vocab_size);
      /** Begins a run; `told` has its progress events, of which `onTold` is told. */
      const begin = (more, onTold = () => {}) => {
        const told = [];
        const progress_callback = (event) => onTold(told.push(event));
        const stream = generator.generate(ids, { max_new_tokens: 1, prefix_reuse: false, progress_callback, ...more });
        return { stream, result: stream.result.catch((error) => error.name), told };
      };
      /** Begins a run and waits until so many pieces of the prompt are done. */
      const beginAndWait = async (nPieces, more = {}) => {
        let run;
        await new Promise((resolve) => (run = begin(more, (n) => n === nPieces && resolve())));
        return run;
      };
      /** How long the worker takes for what was asked before. */
      const workerMs = async () => {
        const start = performance.now();
        await generator.tokenizer.count("x");
        return performance.now() - start;
      };
      const whole = begin({});
      const { timings } = await whole.result;
      const heardMs = [];
      let endName;
      for (const nPieces of [1, 2, 3, 5, 8]) {
        const controller = new AbortController();
        const run = await beginAndWait(nPieces, { signal: controller.signal });
        controller.abort();
        heardMs.push(await workerMs());
        endName = await run.result;
      }
      const soft = await beginAndWait(1);
      soft.stream.interrupt();
      const softMs = await workerMs();
      const { finish_reason, token_ids } = await soft.result;
      const again = await begin({}).result;
      await generator.dispose();
      return {
        told: whole.told,
        promptMs: timings.prompt_ms,
        heardMs,
        endName,
        softMs,
        finish_reason,
        token_ids,
        again: again.token_ids,
      };
    },
    { tokenizer: readFileSync(path.join(WWW, "demo/tokenizer.json"), "base64") },
  );
  assert.deepEqual(
    r.told.map((e) => e.loaded),
    Array.from({ length: 15 }, (_, i) => 64 * (i + 1)),
  );
  assert.deepEqual(r.told[0], { status: "prompt", progress: 6.4, loaded: 64, total: 1000 });
  assert.ok(r.promptMs > 300, `a prompt of ${r.promptMs} ms proves nothing`);
  assert.equal(r.endName, "AbortError");
  // the best of five; and where the machine is busy with something else, everything takes longer
  const soonMs = Math.max(50, r.promptMs / 40);
  assert.ok(Math.min(...r.heardMs) < soonMs, `heard after ${r.heardMs} ms, of a prompt of ${r.promptMs} ms`);
  assert.ok(r.softMs < r.promptMs / 2, `interrupted after ${r.softMs} of ${r.promptMs} ms`);
  assert.deepEqual([r.finish_reason, r.token_ids], ["interrupt", []]);
  assert.deepEqual(r.again, [0], "the next text is whole");
  await page.context().close();
});

test("a model's image begins as zeros, whatever its memory held before", async () => {
  const memory = new WebAssembly.Memory({ initial: 32, maximum: 65536 });
  const env = { memory, sleep: () => 0, wake: () => 0, now: () => performance.now() };
  const { instance } = await WebAssembly.instantiate(
    readFileSync(path.join(served.root, "package/dist/kernels.wasm")),
    { env },
  );
  const { create, fill, image } = instance.exports;
  for (const [i, n_embd] of [64, 320, 32, 192, 512].entries()) {
    const nBytes = create(1000, 128, n_embd, 2, 4, 4 * n_embd, 0, 1e-5, 5, i % 4);
    const bytes = () => Buffer.from(memory.buffer, image() >>> 0, nBytes);
    assert.ok(nBytes > (1000 * n_embd) / 2);
    assert.ok(
      bytes().every((byte) => byte === 0),
      `model ${i}`,
    );
    fill(7);
    assert.ok(bytes().some((byte) => byte !== 0));
  }
});
