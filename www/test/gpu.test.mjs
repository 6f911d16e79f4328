// The GPU engine in a browser, seen from outside: a worker whose WebGPU is watched tells what a token costs, and loses its
// device when it is asked to. SwiftShader is right and slow, so all tests share one generator.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { site } from "./site.mjs";

let browser, page, served;
/** Pipelines of the first load, and what it writes. */
let n_first, first_text;

/**
 * Runs in the worker before the package does: counts calls, and keeps the device to destroy it. `broken`: a pipeline of
 * this label does not compile; `vendor`: the adapter says that it is this one's; `without_subgroups`: it has none;
 * `claims_f16`: it says that it has `shader-f16`, and compiles nothing that uses it.
 */
function watch({ broken, vendor, without_subgroups, claims_f16 }) {
  const counts = { read_bytes: 0, with_subgroups: 0, with_f16: 0 };
  let device;
  const devices = new Set();
  let submits_left = 0;
  let is_gone = false;
  const wrap = (type, name, around) => {
    const original = type.prototype[name];
    counts[name] ??= 0;
    type.prototype[name] = function (...given) {
      counts[name] += 1;
      const call = () => original.apply(this, given);
      return around ? around(call, given, this) : call();
    };
  };
  wrap(GPU, "requestAdapter", (call) => (is_gone ? Promise.resolve(null) : call()));
  if (without_subgroups) GPUSupportedFeatures.prototype.has = () => false;
  const without_f16 = new WeakSet();
  if (claims_f16) {
    const { has } = GPUSupportedFeatures.prototype;
    GPUSupportedFeatures.prototype.has = function (name) {
      return name === "shader-f16" ? !without_f16.has(this) : has.call(this, name);
    };
  }
  wrap(GPUAdapter, "requestDevice", async (call, given) => {
    const { requiredFeatures } = given[0];
    const has_f16 = requiredFeatures.includes("shader-f16");
    if (claims_f16) given[0] = { ...given[0], requiredFeatures: requiredFeatures.filter((name) => name !== "shader-f16") };
    device = await call();
    counts.with_subgroups += requiredFeatures.includes("subgroups") ? 1 : 0;
    counts.with_f16 += has_f16 ? 1 : 0;
    if (!has_f16) without_f16.add(device.features);
    devices.add(device);
    return device;
  });
  for (const name of ["createBuffer", "createBindGroup", "createShaderModule", "createComputePipeline"]) wrap(GPUDevice, name);
  wrap(GPUDevice, "createComputePipelineAsync", (call, [{ label }]) =>
    label === broken ? Promise.reject(new GPUPipelineError("out of registers", { reason: "internal" })) : call(),
  );
  if (vendor) Object.defineProperty(GPUAdapter.prototype, "info", { get: () => ({ vendor, architecture: "", device: "", description: "" }) });
  for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) wrap(GPUComputePassEncoder, name);
  wrap(GPUBuffer, "mapAsync", (call, [, offset = 0, size], buffer) => {
    counts.read_bytes += size ?? buffer.size - offset;
    return call();
  });
  wrap(GPUQueue, "submit", (call) => {
    call();
    if (submits_left > 0 && --submits_left === 0) device.destroy();
  });
  const channel = new BroadcastChannel("watch");
  wrap(GPUDevice, "destroy", (call, _, device) => {
    call();
    devices.delete(device);
    channel.postMessage({ devices_left: devices.size });
  });
  channel.onmessage = ({ data }) => {
    if (data.destroy_after !== undefined) submits_left = data.destroy_after;
    if (data.is_gone !== undefined) is_gone = data.is_gone;
    channel.postMessage({ counts: { ...counts } });
  };
}

before(async () => {
  served = await site();
  browser = await launch();
  page = await (await browser.newContext()).newPage();
  await page.goto(served.url);
  await page.evaluate(async (watch) => {
    window.gpt2 = await import("/package/dist/index.js");
    const module = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    /** A worker whose WebGPU is watched. */
    window.watched = (how) => {
      const imports = [module(`(${watch})(${JSON.stringify(how)})`), new URL("/package/dist/worker.js", location.href).href];
      return new Worker(module(imports.map((url) => `import ${JSON.stringify(url)};`).join("\n")), { type: "module" });
    };
    const channel = new BroadcastChannel("watch");
    /** Tells the watcher something. → the counts so far */
    window.tell = (message) =>
      new Promise((resolve) => {
        channel.onmessage = ({ data }) => data.counts && resolve(data.counts);
        channel.postMessage(message);
      });
    window.events = [];
    const progress_callback = (event) => events.push(event);
    window.generator = await gpt2.createGenerator("demo", { device: "webgpu", worker: watched({ vendor: "acme" }), progress_callback });
  }, watch.toString());
}, { timeout: 300_000 });
after(async () => {
  await browser?.close();
  served?.close();
});

const PROMPT = "Once upon a time there was a little girl";
const GREEDY = { do_sample: false, eos_token_id: null };
const SAMPLED = { top_k: 50, top_p: 0.95, temperature: 1.1, seed: 5, eos_token_id: null };

/** Writes, and tells what that took of the GPU. */
const write = (options, message = {}) =>
  page.evaluate(
    async ({ prompt, options, message }) => {
      const before = await tell(message);
      const { text, token_ids } = await generator.complete(prompt, options);
      const after = await tell({});
      return { text, token_ids, info: { ...generator.info }, used: Object.fromEntries(Object.keys(after).map((name) => [name, after[name] - before[name]])) };
    },
    { prompt: PROMPT, options, message },
  );

test("pipelines are compiled in the background, beside the download, and told of", async () => {
  const { events, counts } = await page.evaluate(async () => ({ events: window.events, counts: await tell({}) }));
  const compiled = events.flatMap((e, i) => (e.status === "progress" && e.phase === "compile" ? [[e.progress, i]] : []));
  const percents = compiled.map(([percent]) => percent);
  assert.deepEqual([percents[0], percents.at(-1)], [0, 100]);
  assert.deepEqual(percents, percents.toSorted((a, b) => a - b));
  assert.ok(counts.createComputePipelineAsync > 20);
  assert.equal(counts.createComputePipeline, 0, "none that blocks the device");
  assert.deepEqual([counts.requestDevice, counts.with_subgroups], [1, 1], "SwiftShader has subgroups");
  const downloaded = events.findIndex((e) => e.status === "done" && e.file === "model.safetensors");
  assert.ok(downloaded >= 0 && downloaded < compiled.at(-1)[1], "the download does not wait for the compiler");
  assert.ok(events.some((e) => e.phase === "self-test" && e.status === "progress_total"));
  assert.equal(events.at(-1).status, "ready");
  // more were compiled than there are in use: an adapter that is not known to be software is measured
  n_first = counts.createComputePipelineAsync;
  assert.ok(n_first > percents.length - 1, `${n_first} pipelines, ${percents.length - 1} of them told of`);
});

/** What is remembered of GPUs; `replace` puts something else there, in the i-th place. */
const remembered = (replace, i = 0) =>
  page.evaluate(async ([replace, i]) => {
    const db = await new Promise((resolve) => (indexedDB.open("gpt2-web").onsuccess = (e) => resolve(e.target.result)));
    const store = db.transaction("tunings", "readwrite").objectStore("tunings");
    const all = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
    const [keys, values] = [await all(store.getAllKeys()), await all(store.getAll())];
    if (replace !== undefined) await all(store.put(replace, keys[i]));
    db.close();
    return { keys, values };
  }, [replace, i]);

test("what was measured on a GPU is remembered", async () => {
  const { keys, values } = await remembered();
  assert.equal(keys.length, 1);
  assert.match(keys[0], /^acme v2 fp16 C160 inner\d+ H\d+ L4$/);
  console.log(`${keys[0]}: ${values[0]}`);
  assert.deepEqual(Object.keys(JSON.parse(values[0])), ["thread_chunks", "matvec_threads", "tile", "tile_f16", "split_keys"]);
  assert.equal(JSON.parse(values[0]).tile_f16, false, "SwiftShader has no shader-f16");
});

test("a token is one submit of few dispatches, creates nothing and reads back little", { timeout: 300_000 }, async () => {
  const n_layer = 4;
  for (const options of [GREEDY, SAMPLED]) {
    await write({ ...options, max_new_tokens: 16 }); // the cache has room from here on
    const short = await write({ ...options, max_new_tokens: 4 });
    const long = await write({ ...options, max_new_tokens: 16 });
    const per_12 = (name) => long.used[name] - short.used[name];
    // where host and device differ (rounding) a pass is run again
    const n_passes = options === GREEDY ? 12 : 14;
    assert.ok(per_12("submit") <= n_passes && per_12("submit") >= 12, `${per_12("submit")} submits`);
    assert.ok(per_12("dispatchWorkgroups") <= n_passes * (2 + 5 * n_layer + 2), `${per_12("dispatchWorkgroups")} dispatches`);
    for (const name of ["createBuffer", "createBindGroup", "createShaderModule", "createComputePipeline", "createComputePipelineAsync"]) {
      assert.equal(long.used[name], 0, name);
    }
    assert.ok(per_12("read_bytes") <= 12 * 1024, `${per_12("read_bytes")} bytes`);
    console.log(`per token: ${per_12("submit") / 12} submits, ${per_12("dispatchWorkgroups") / 12} dispatches, ${per_12("read_bytes") / 12} bytes read`);
  }
  const stats = await page.evaluate(() => generator.stats());
  console.log(`encode_ms_per_token ${stats.encode_ms_per_token.toFixed(3)}`);
  assert.ok(stats.encode_ms_per_token < 5);
  assert.ok(stats.submits_per_token <= 1.1 && stats.read_bytes_per_token <= 1024 && stats.objects_per_token === 0);
});

test("an abort in mid-sentence is heard, and the next text is whole", { timeout: 300_000 }, async () => {
  const expected = await write({ ...GREEDY, max_new_tokens: 6 });
  const n_seen = await page.evaluate(
    async ({ prompt, options }) => {
      const controller = new AbortController();
      let n = 0;
      try {
        for await (const _ of generator.generate(prompt, { ...options, max_new_tokens: 100, signal: controller.signal })) if (++n === 3) controller.abort();
      } catch (error) {
        return error.name === "AbortError" ? n : error.name;
      }
    },
    { prompt: PROMPT, options: GREEDY },
  );
  assert.equal(n_seen, 3);
  assert.equal((await write({ ...GREEDY, max_new_tokens: 6 })).text, expected.text);
  first_text = expected.text;
});

test("a device destroyed in mid-sentence: the same stream goes on", { timeout: 300_000 }, async () => {
  const options = { ...SAMPLED, max_new_tokens: 12 };
  const undisturbed = await write(options);
  // a text that is older than the loss
  await page.evaluate(async (options) => {
    window.session = generator.session();
    await session.append("The old king");
    window.session_text = (await session.clone().generate("", options).result).text;
  }, options);
  const disturbed = await write(options, { destroy_after: 6 });
  assert.deepEqual(disturbed.token_ids, undisturbed.token_ids);
  assert.equal(disturbed.text, undisturbed.text);
  assert.equal(disturbed.used.requestDevice, 1);
  assert.ok(disturbed.used.createComputePipelineAsync < n_first, "measured once");
  assert.equal(disturbed.used.createComputePipeline, 0);
  assert.deepEqual(undisturbed.info.warnings, []);
  assert.deepEqual([disturbed.info.device, disturbed.info.fallback_reason], ["webgpu", null]);
  assert.match(disturbed.info.warnings.join(), /GPU was lost .* loaded again, on webgpu/);
  const older = await page.evaluate(async (options) => [window.session_text, (await session.generate("", options).result).text], options);
  assert.equal(older[1], older[0]);
});

test("where there is no other GPU the CPU goes on, and it is said", { timeout: 300_000 }, async () => {
  const options = { ...GREEDY, max_new_tokens: 10 };
  const undisturbed = await write(options);
  const disturbed = await write(options, { destroy_after: 5, is_gone: true });
  assert.equal(disturbed.text, undisturbed.text);
  assert.equal(disturbed.info.device, "wasm");
  assert.match(disturbed.info.fallback_reason, /GPU was lost/);
  assert.equal((await write(options)).text, undisturbed.text);
});

test("an abort while pipelines are compiled is heard at once", { timeout: 120_000 }, async () => {
  const [name, ms] = await page.evaluate(async () => {
    const controller = new AbortController();
    let aborted;
    const progress_callback = (event) => {
      if (event.phase !== "compile" || event.progress === 0 || event.status !== "progress" || aborted) return;
      aborted = performance.now();
      controller.abort();
    };
    const options = { device: "webgpu", worker: watched({}), progress_callback, signal: controller.signal };
    const name = await gpt2.createGenerator("demo", options).catch((error) => error.name);
    return [name, performance.now() - aborted];
  });
  assert.equal(name, "AbortError");
  assert.ok(ms < 500, `${ms} ms`);
});

test("a pipeline that does not compile is named, and auto goes on with the CPU", { timeout: 300_000 }, async () => {
  const load = (device) =>
    page.evaluate(async (device) => {
      try {
        // a hardware adapter, or auto would not try it
        const generator = await gpt2.createGenerator("demo", { device, worker: watched({ broken: "embed", vendor: "acme" }) });
        const { text } = await generator.complete("Once upon a time", { do_sample: false, max_new_tokens: 3 });
        const { info } = generator;
        await generator.dispose();
        return { info, text };
      } catch (error) {
        return { code: error.code, message: error.message };
      }
    }, device);
  const named = await load("webgpu");
  assert.equal(named.code, "webgpu_not_available");
  assert.match(named.message, /`embed`: .*out of registers/);
  const { info, text } = await load("auto");
  assert.deepEqual([info.device, info.dtype], ["wasm", "q8"]);
  assert.match(info.fallback_reason, /`embed`/);
  assert.ok(text.length > 0);
});

test("dispose destroys every device, then ends the worker", { timeout: 300_000 }, async () => {
  const { values } = await remembered('{"thread_chunks":7}');
  const found = await page.evaluate(async ({ prompt, options }) => {
    await generator.dispose();
    window.generator = await gpt2.createGenerator("demo", { device: "webgpu", worker: watched({ vendor: "acme", without_subgroups: true }) });
    const { text } = await generator.complete(prompt, options);
    const { with_subgroups, createBuffer, destroy } = await tell({});
    let [n_ended, devices_left] = [0, undefined];
    const { terminate } = Worker.prototype;
    Worker.prototype.terminate = function () {
      n_ended += 1;
      terminate.call(this);
    };
    const channel = new BroadcastChannel("watch");
    channel.onmessage = ({ data }) => (devices_left = data.devices_left ?? devices_left);
    const running = generator.complete("Once", { max_new_tokens: 200 }).catch((error) => error.code);
    await generator.dispose();
    const code = await generator.stats().catch((error) => error.code);
    const begun = performance.now();
    while (devices_left === undefined && performance.now() - begun < 5000) await new Promise((resolve) => setTimeout(resolve, 20));
    return { text, with_subgroups, createBuffer, destroy, n_ended, devices_left, codes: [code, await running] };
  }, { prompt: PROMPT, options: { ...GREEDY, max_new_tokens: 6 } });
  const { text, createBuffer, ...rest } = found;
  assert.ok(createBuffer > 20);
  assert.deepEqual(rest, { with_subgroups: 0, destroy: 0, n_ended: 1, devices_left: 0, codes: ["disposed", "disposed"] });
  assert.equal(text, first_text, "with subgroups and without");
  const again = await remembered();
  assert.deepEqual(Object.keys(JSON.parse(again.values[0])), Object.keys(JSON.parse(values[0])), "what nobody measured is not believed");
});

test("a GPU whose halves do not compile goes on without them", { timeout: 300_000 }, async () => {
  const load = () =>
    page.evaluate(async ({ prompt, options }) => {
      const generator = await gpt2.createGenerator("demo", { device: "webgpu", worker: watched({ vendor: "boast", claims_f16: true }) });
      const { text } = await generator.complete(prompt, options);
      const { requestDevice, with_f16 } = await tell({});
      const { device, warnings } = generator.info;
      await generator.dispose();
      return { text, requestDevice, with_f16, device, warnings };
    }, { prompt: PROMPT, options: { ...GREEDY, max_new_tokens: 6 } });
  const expected = { text: first_text, with_f16: 1, device: "webgpu", warnings: [] };
  // measured: it is not chosen, and costs nothing else
  assert.deepEqual(await load(), { ...expected, requestDevice: 1 });
  const { keys, values } = await remembered();
  assert.deepEqual(keys.map((key) => key.split(" ")[0]), ["acme", "boast"]);
  assert.equal(JSON.parse(values[1]).tile_f16, false);
  // remembered, of a driver that could once: the device is opened again without, and measured
  await remembered(JSON.stringify({ ...JSON.parse(values[1]), tile_f16: true }), 1);
  assert.deepEqual(await load(), { ...expected, requestDevice: 2 });
  assert.equal(JSON.parse((await remembered()).values[1]).tile_f16, false);
});
