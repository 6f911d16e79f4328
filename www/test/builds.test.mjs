// The two builds of the main module: a visitor fetches the one that the device and the tokenizer need, and no other.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, test } from "node:test";
import { WWW } from "./site.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { watchGpuIn } from "./watch-gpu.mjs";

const stage = await openStageWithFreshTab();
const { served } = stage;

const SMALL = ["gpt2_web_bg.wasm"];
const FULL = ["gpt2_web_full.js", "gpt2_web_full_bg.wasm"];
/** The parts of either build that were asked for, each as often as it was. */
const fetched = () => {
  const names = served.requests.map((url) => path.basename(new URL(url, "http://x").pathname));
  return names.filter((name) => SMALL.includes(name) || FULL.includes(name)).sort();
};

beforeEach(async () => {
  served.requests.length = 0;
  served.hooks.intercept = undefined;
  await watchGpuIn(stage.page);
});

/** Loads the demo model in a worker whose WebGPU is watched, and writes greedily. */
const write = (options, how = {}) =>
  stage.page.evaluate(
    async ([options, how]) => {
      try {
        const generator = await gpt2.createGenerator("demo", { worker: watched(how), ...options });
        const greedy = { max_new_tokens: 4, do_sample: false };
        const { text } = await generator.complete("The old king", greedy);
        const { nll } = await generator.score("The old king's daughter");
        const { device, fallback_reason } = generator.info;
        await generator.dispose();
        return { text, nll, device, fallback_reason };
      } catch ({ code, message, url }) {
        return { code, message, url };
      }
    },
    [options, how],
  );

test("whose model runs on the CPU fetches the small build alone", async () => {
  for (const [options, how] of [
    [{ device: "auto" }, {}], // the tests' GPU is software
    [{ device: "wasm" }, { vendor: "acme" }],
  ]) {
    served.requests.length = 0;
    const { device } = await write(options, how);
    assert.equal(device, "wasm");
    assert.deepEqual(fetched(), SMALL, JSON.stringify(options));
  }
});

test("whose model runs on the GPU fetches the full build alone, and both write the same", {
  timeout: 300_000,
}, async () => {
  const onGpu = await write({ device: "auto", dtype: "fp32" }, { vendor: "acme" });
  assert.equal(onGpu.device, "webgpu");
  assert.deepEqual(fetched(), FULL);
  served.requests.length = 0;
  const onCpu = await write({ device: "wasm", dtype: "fp32" });
  assert.deepEqual(fetched(), SMALL);
  assert.equal(onGpu.text, onCpu.text);
  assert.ok(Math.abs(onGpu.nll - onCpu.nll) < 1e-3 * onCpu.nll, `${onGpu.nll} and ${onCpu.nll}`);
});

test("a GPU that turns out to be of no use leaves the model to the CPU of the same build", {
  timeout: 300_000,
}, async () => {
  const { device, fallback_reason, text } = await write({ device: "auto" }, { vendor: "acme", broken: "choose" });
  assert.deepEqual([device, fetched()], ["wasm", FULL]);
  assert.match(fallback_reason, /out of registers/);
  assert.equal(text.length > 4, true);
});

test("without an adapter, WebGPU by name is an error of the small build", async () => {
  const error = await stage.page.evaluate(async () => {
    const worker = watched({});
    await worker.tell({ isGone: true });
    const options = { worker, device: "webgpu" };
    return gpt2.createGenerator("demo", options).catch(({ code, message }) => ({ code, message }));
  });
  assert.deepEqual([error.code, fetched()], ["webgpu_not_available", SMALL]);
  assert.match(error.message, /no WebGPU adapter/);
});

/** Puts a script in front of the package's worker. */
const before = (first, argument) => {
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("/dist/worker.js")) return false;
    response.writeHead(200, { "Content-Type": "text/javascript", "Cross-Origin-Embedder-Policy": "require-corp" });
    const worker = readFileSync(path.join(served.root, "package/dist/worker.js"), "utf8");
    response.end(`(${first})(${JSON.stringify(argument)});\n${worker}`);
    return true;
  };
};

/** An adapter that says this of itself. Runs in the worker. */
function nameGpu(names) {
  const get = () => ({ vendor: "", architecture: "", device: "", description: "", ...names });
  Object.defineProperty(GPUAdapter.prototype, "info", { get });
}

test("an estimate fetches the build that the model would need, and knows software by its names", async () => {
  const estimated = (device) =>
    stage.page.evaluate(async (device) => (await gpt2.estimate("demo", { device })).device, device);
  for (const [names, device] of [
    [{ vendor: "google", architecture: "swiftshader" }, "wasm"],
    [{ vendor: "mesa", description: "llvmpipe (LLVM 15.0.6, 256 bits)" }, "wasm"],
    [{ vendor: "microsoft", description: "Microsoft Basic Render Driver" }, "wasm"],
    [{ vendor: "x", isFallbackAdapter: true }, "wasm"],
    [{ vendor: "nvidia", architecture: "hopper" }, "webgpu"],
    [{ vendor: "apple", architecture: "metal-3" }, "webgpu"],
    [{}, "webgpu"],
  ]) {
    before(nameGpu, names);
    served.requests.length = 0;
    assert.equal(await estimated("auto"), device, JSON.stringify(names));
    assert.deepEqual(fetched(), device === "wasm" ? SMALL : FULL);
  }
  served.requests.length = 0;
  assert.equal(await estimated("wasm"), "wasm");
  assert.deepEqual(fetched(), SMALL);
});

test("a tokenizer that is not GPT-2's fetches the full build besides", async () => {
  const golden = path.join(WWW, "../tests/golden/models/base");
  const files = ["config.json", "model.safetensors"].map((file) => [
    file,
    readFileSync(path.join(golden, file), "base64"),
  ]);
  const { ids, greedy } = JSON.parse(readFileSync(path.join(golden, "expected.json"), "utf8"));
  const found = await stage.page.evaluate(
    async ({ files, ids, n }) => {
      const blob = (text) => new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
      const vocab = Object.fromEntries(Array.from({ length: 97 }, (_, id) => [`w${id}`, id]));
      const tokenizer = {
        version: "1.0",
        pre_tokenizer: { type: "WhitespaceSplit" },
        model: { type: "WordLevel", vocab, unk_token: "w0" },
      };
      const model = {
        files: {
          ...Object.fromEntries(files.map(([file, text]) => [file, blob(text)])),
          "tokenizer.json": new Blob([JSON.stringify(tokenizer)]),
          "tokenizer_config.json": new Blob(['{"tokenizer_class": "PreTrainedTokenizerFast"}']),
        },
      };
      const generator = await gpt2.createGenerator(model, { device: "wasm", dtype: "fp32" });
      const options = { do_sample: false, max_new_tokens: n, eos_token_id: null };
      const { token_ids, text } = await generator.complete(ids, options);
      const encoded = await generator.tokenizer.encode("w5  w96 unknown w1");
      await generator.dispose();
      return { token_ids, text, encoded, warnings: generator.info.warnings };
    },
    { files, ids, n: greedy.length },
  );
  assert.deepEqual(fetched(), [...SMALL, ...FULL].sort());
  assert.deepEqual(found.token_ids, greedy);
  assert.equal(found.text.trim(), greedy.map((id) => `w${id}`).join(" "));
  assert.deepEqual(found.encoded, [5, 96, 0, 1]);
});

test("a script of the full build that is missing is named", async () => {
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("/gpt2_web_full.js")) return false;
    response.writeHead(404).end();
    return true;
  };
  const missing = await write({ device: "webgpu" });
  assert.equal(missing.code, "network", missing.message);
  assert.match(missing.message, /gpt2_web_full\.js: expected the script gpt2_web_full\.js of this package/);
  assert.match(missing.url, /gpt2_web_full\.js$/);
});
