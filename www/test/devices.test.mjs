// Devices that give less than was asked for: memory, threads, limits. What there is is used, and the rest is said.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { openStageWithFreshTab } from "./stage.mjs";

const stage = await openStageWithFreshTab();
const { served } = stage;

/** Loads the demo model in a worker in which `first` has run, and writes. → what `info` and the text say */
const write = (first, argument, options = {}) =>
  stage.page.evaluate(
    async ([source, argument, options]) => {
      const worker = workerAfter(source, argument);
      const told = [];
      worker.addEventListener("told", ({ data }) => told.push(data));
      const generator = await gpt2.createGenerator("demo", { device: "wasm", threads: 2, worker, ...options });
      const few = { max_new_tokens: 8, do_sample: false, eos_token_id: null };
      const { token_ids } = await generator.complete("The old king", few);
      const { threads, device, warnings } = generator.info;
      await generator.dispose();
      return { token_ids, threads, device, warnings, told };
    },
    [first.toString(), argument, options],
  );

/** A browser that refuses shared memories of more than so many pages. Runs in the worker. */
function refuseShared(maxPages) {
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class {
    constructor(descriptor) {
      if (descriptor.shared && descriptor.maximum > maxPages) throw new RangeError("could not allocate memory");
      postMessage({ told: [descriptor.shared, descriptor.maximum] });
      // biome-ignore lint/correctness/noConstructorReturn: a memory must be the browser's own
      return new Memory(descriptor);
    }
  };
}

test("a shared memory that is refused is asked for again, smaller, and then not shared", async () => {
  const whole = await write(refuseShared, 65536);
  assert.deepEqual([whole.threads, whole.warnings, whole.told], [2, [], [[true, 65536]]]);
  const smaller = await write(refuseShared, 20000);
  assert.deepEqual([smaller.threads, smaller.warnings, smaller.told], [2, [], [[true, 16384]]]);
  // 256 MiB, which is too little for this model and its texts; and none at all
  for (const [maxPages, told] of [
    [
      4096,
      [
        [true, 4096],
        [false, 65536],
      ],
    ],
    [4095, [[false, 65536]]],
  ]) {
    for (const threads of [2, "auto"]) {
      const alone = await write(refuseShared, maxPages, { threads });
      assert.deepEqual([alone.threads, alone.told], [1, told]);
      assert.match(alone.warnings.join(), /^threads: 1, since .* shared memory$/);
      assert.deepEqual(alone.token_ids, whole.token_ids);
    }
  }
});

test("a browser that makes shared memories, but shares none, has one thread and says so", async () => {
  const { token_ids } = await write(() => {}, null);
  for (const threads of [2, "auto"]) {
    const alone = await write(() => void delete globalThis.SharedArrayBuffer, null, { threads });
    assert.deepEqual(
      [alone.threads, alone.warnings],
      [1, ["threads: 1, since this browser has no `SharedArrayBuffer`"]],
    );
    assert.deepEqual(alone.token_ids, token_ids);
  }
});

/** A browser in which kernel threads after the first `nGood` are `broken`. Runs in the worker. */
function breakThreads({ nGood, broken }) {
  const Original = Worker;
  let n = 0;
  globalThis.Worker = class extends Original {
    #isGood;
    constructor(...given) {
      if (n >= nGood && broken === "refused") throw new DOMException("too many workers", "SecurityError");
      super(...given);
      this.#isGood = n++ < nGood;
    }
    postMessage(message) {
      if (this.#isGood) return super.postMessage(message);
      if (broken === "uncloneable") throw new DOMException("The object can not be cloned.", "DataCloneError");
      if (broken === "failing") super.postMessage({ ...message, module: {} });
      // else it never hears of it
    }
    terminate() {
      postMessage({ told: "terminated" });
      super.terminate();
    }
  };
  // nobody waits ten seconds here
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (f, ms, ...rest) => setTimeout(f, ms === 10_000 ? 300 : ms, ...rest);
}

test("a kernel thread that cannot start is one thread fewer, and it is said why", { timeout: 120_000 }, async () => {
  const { token_ids } = await write(() => {}, null);
  for (const [broken, why] of [
    ["silent", /no answer within 10 s/],
    ["uncloneable", /can not be cloned/],
    ["failing", /kernel thread \d: TypeError/],
    ["refused", /too many workers/],
  ]) {
    for (const nGood of [0, 1]) {
      const found = await write(breakThreads, { nGood, broken }, { threads: 4 });
      assert.equal(found.threads, 1 + nGood, broken);
      assert.match(found.warnings.join(), new RegExp(`^threads: ${1 + nGood}, since no more could be started`));
      assert.match(found.warnings.join(), why);
      assert.deepEqual(found.told, broken === "refused" ? [] : ["terminated"], "it is ended, and no other is tried");
      assert.deepEqual(found.token_ids, token_ids);
    }
    const auto = await write(breakThreads, { nGood: 0, broken }, { threads: "auto" });
    assert.equal(auto.threads, 1);
  }
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("/kernel-thread.js")) return false;
    response.writeHead(404).end();
    return true;
  };
  const missing = await write(() => {}, null);
  served.hooks.intercept = undefined;
  assert.equal(missing.threads, 1);
  assert.match(missing.warnings.join(), /could not be loaded/);
});

test("what the CPU cannot hold is refused before the download, as estimate says", async () => {
  const { estimated, error } = await stage.page.evaluate(async () => {
    const xl = { model_type: "gpt2", n_embd: 1600, n_head: 25, n_layer: 48 };
    const tokenizer = await (await fetch("/package/dist/demo/tokenizer.json")).blob();
    const model = { files: { "config.json": new Blob([JSON.stringify(xl)]), "tokenizer.json": tokenizer } };
    const options = { device: "wasm", dtype: "fp16" };
    const estimated = await gpt2.estimate(model, options);
    const error = await gpt2.createGenerator(model, options).catch(({ code, message }) => ({ code, message }));
    return { estimated, error };
  });
  assert.equal(error.code, "out_of_memory");
  assert.match(error.message, /the model in fp16 takes 3\d{9} bytes.*at most 2147\d{6}; dtype "q8" fits/);
  assert.ok(estimated.problems.includes(error.message), estimated.problems.join());
  assert.deepEqual([estimated.device, estimated.dtype], ["wasm", "fp16"]);
  assert.ok(estimated.device_bytes > 3e9);
});

/** An adapter of a real GPU that binds little at once. Runs in the worker. */
function limitGpu() {
  const get = () => ({ vendor: "acme", architecture: "", device: "", description: "" });
  Object.defineProperty(GPUAdapter.prototype, "info", { get });
  Object.defineProperty(GPUSupportedLimits.prototype, "maxStorageBufferBindingSize", { get: () => 65536 });
}

test("a GPU whose limits a model does not fit is left alone, as estimate says", async () => {
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("/dist/worker.js")) return false;
    response.writeHead(200, { "Content-Type": "text/javascript", "Cross-Origin-Embedder-Policy": "require-corp" });
    response.end(`(${limitGpu})();\n${readFileSync(path.join(served.root, "package/dist/worker.js"), "utf8")}`);
    return true;
  };
  const found = await stage.page.evaluate(async () => {
    const estimated = await gpt2.estimate("demo", { device: "auto" });
    const named = await gpt2.estimate("demo", { device: "webgpu" });
    const error = await gpt2
      .createGenerator("demo", { device: "webgpu" })
      .catch(({ code, message }) => ({ code, message }));
    const generator = await gpt2.createGenerator("demo", { device: "auto" });
    await generator.dispose();
    return { estimated, named, error, info: generator.info };
  });
  served.hooks.intercept = undefined;
  const { estimated, named, error, info } = found;
  assert.deepEqual([estimated.device, estimated.dtype, info.device, info.dtype], ["wasm", "q8", "wasm", "q8"]);
  assert.match(info.fallback_reason, /at most 65536/);
  assert.ok(estimated.problems.includes(`no GPU: ${info.fallback_reason}`), estimated.problems.join());
  assert.deepEqual([named.device, error.code], ["webgpu", "webgpu_not_available"]);
  assert.ok(named.problems.includes(error.message), named.problems.join());
});

test("a browser that lacks what everything needs is told so", async () => {
  const errors = await stage.page.evaluate(async () => {
    const load = () => gpt2.createGenerator("demo").catch(({ code, missing }) => ({ code, missing }));
    const { validate } = WebAssembly;
    WebAssembly.validate = () => false;
    const withoutSimd = await load();
    WebAssembly.validate = validate;
    const Original = BigInt64Array;
    delete globalThis.BigInt64Array;
    const withoutBigInts = await load();
    globalThis.BigInt64Array = Original;
    const Modern = Worker;
    // an older browser does not know the option, so it does not read it
    globalThis.Worker = class extends Modern {
      constructor(url, { name }) {
        super(url, { name });
      }
    };
    const withoutModules = await load();
    globalThis.Worker = Modern;
    return [withoutSimd, withoutBigInts, withoutModules];
  });
  assert.deepEqual(errors, [
    { code: "unsupported_environment", missing: ["SIMD in WebAssembly"] },
    { code: "unsupported_environment", missing: ["64-bit numbers (`BigInt64Array`)"] },
    { code: "unsupported_environment", missing: ["modules as workers"] },
  ]);
});
