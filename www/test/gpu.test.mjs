// The GPU engine in a browser, seen from outside: a worker whose WebGPU is watched tells what a token costs, and loses
// its device when it is asked to. SwiftShader is right and slow, so all tests share one generator.
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { WWW } from "./site.mjs";
import { openStage } from "./stage.mjs";
import { openTab } from "./tab.mjs";
import { watchGpuIn } from "./watch-gpu.mjs";

/** Pipelines of the first load, and what it writes. */
let nFirst, firstText;

const stage = await openStage();
cpSync(path.join(WWW, "../tests/golden/lora"), path.join(stage.served.root, "lora"), { recursive: true });
const page = await openTab(await stage.browser.newContext(), stage.served.url);
await watchGpuIn(page);
await page.evaluate(() => openWatched({ vendor: "acme" }));

const PROMPT = "Once upon a time there was a little girl";
const GREEDY = { do_sample: false, eos_token_id: null };
const SAMPLED = { top_k: 50, top_p: 0.95, temperature: 1.1, seed: 5, eos_token_id: null };

/** Writes, and tells what that took of the GPU. */
const write = (options, message = {}) =>
  page.evaluate(
    async ({ prompt, options, message }) => {
      const before = await worker.tell(message);
      const { text, token_ids } = await generator.complete(prompt, options);
      const after = await worker.tell({});
      return {
        text,
        token_ids,
        info: { ...generator.info },
        used: Object.fromEntries(Object.keys(after).map((name) => [name, after[name] - before[name]])),
      };
    },
    { prompt: PROMPT, options, message },
  );

test("pipelines are compiled in the background, beside the download, and told of", async () => {
  const { events, counts } = await page.evaluate(async () => ({
    events: window.events,
    counts: await worker.tell({}),
  }));
  const compiled = events.flatMap((e, i) =>
    e.status === "progress" && e.phase === "compile" ? [[e.progress, i]] : [],
  );
  const percents = compiled.map(([percent]) => percent);
  assert.deepEqual([percents[0], percents.at(-1)], [0, 100]);
  assert.deepEqual(
    percents,
    percents.toSorted((a, b) => a - b),
  );
  assert.ok(counts.createComputePipelineAsync > 20);
  assert.equal(counts.createComputePipeline, 0, "none that blocks the device");
  assert.deepEqual([counts.requestDevice, counts.withSubgroups], [1, 1], "SwiftShader has subgroups");
  const downloaded = events.findIndex((e) => e.status === "done" && e.file === "model.safetensors");
  assert.ok(downloaded >= 0 && downloaded < compiled.at(-1)[1], "the download does not wait for the compiler");
  assert.ok(events.some((e) => e.phase === "self-test" && e.status === "progress_total"));
  const last = events.findLast((e) => e.phase !== "keep"); // which goes on behind it
  assert.equal(last.status, "ready");
  // more were compiled than there are in use: an adapter that is not known to be software is measured
  nFirst = counts.createComputePipelineAsync;
  assert.ok(nFirst > percents.length - 1, `${nFirst} pipelines, ${percents.length - 1} of them told of`);
});

/** What is remembered of GPUs; `replace` puts something else there, in the i-th place. */
const remembered = (replace, i = 0) =>
  page.evaluate(
    async ([replace, i]) => {
      const db = await openCache();
      const store = db.transaction("tunings", "readwrite").objectStore("tunings");
      const [keys, values] = [await answered(store.getAllKeys()), await answered(store.getAll())];
      if (replace !== undefined) await answered(store.put(replace, keys[i]));
      db.close();
      return { keys, values };
    },
    [replace, i],
  );

test("what was measured on a GPU is remembered", async () => {
  const { keys, values } = await remembered();
  assert.equal(keys.length, 1);
  assert.match(keys[0], /^acme v3 fp16 C160 inner\d+ H\d+ L4$/);
  console.log(`${keys[0]}: ${values[0]}`);
  assert.deepEqual(Object.keys(JSON.parse(values[0])), ["thread_chunks", "matvec_threads", "tile", "tile_f16"]);
  assert.equal(JSON.parse(values[0]).tile_f16, false, "SwiftShader has no shader-f16");
});

test("a token is one submit of few dispatches, creates nothing and reads back little", {
  timeout: 300_000,
}, async () => {
  const nLayer = 4;
  const whole = { ...SAMPLED, top_k: 0, top_p: 1, min_p: 0, temperature: 0.6 };
  for (const options of [GREEDY, SAMPLED, whole]) {
    await write({ ...options, max_new_tokens: 16 }); // the cache has room from here on
    const short = await write({ ...options, max_new_tokens: 4 });
    const long = await write({ ...options, max_new_tokens: 16 });
    const per12 = (name) => long.used[name] - short.used[name];
    // where host and device differ (rounding) a pass is run again
    const nPasses = options === GREEDY ? 12 : 14;
    assert.ok(per12("submit") <= nPasses && per12("submit") >= 12, `${per12("submit")} submits`);
    assert.ok(
      per12("dispatchWorkgroups") <= nPasses * (2 + 5 * nLayer + 2),
      `${per12("dispatchWorkgroups")} dispatches`,
    );
    for (const name of [
      "createBuffer",
      "createBindGroup",
      "createShaderModule",
      "createComputePipeline",
      "createComputePipelineAsync",
    ]) {
      assert.equal(long.used[name], 0, name);
    }
    assert.ok(per12("readBytes") <= 12 * 1024, `${per12("readBytes")} bytes`);
    const [submits, dispatches, bytes] = ["submit", "dispatchWorkgroups", "readBytes"].map((name) => per12(name) / 12);
    console.log(`per token: ${submits} submits, ${dispatches} dispatches, ${bytes} bytes read`);
  }
  const stats = await page.evaluate(() => generator.stats());
  console.log(`encode_ms_per_token ${stats.encode_ms_per_token.toFixed(3)}`);
  assert.ok(stats.encode_ms_per_token < 5);
  assert.ok(stats.submits_per_token <= 1.1 && stats.read_bytes_per_token <= 1024 && stats.objects_per_token === 0);
});

test("an abort in mid-sentence is heard, and the next text is whole", { timeout: 300_000 }, async () => {
  const expected = await write({ ...GREEDY, max_new_tokens: 6 });
  const nSeen = await page.evaluate(
    async ({ prompt, options }) => {
      const controller = new AbortController();
      let n = 0;
      try {
        for await (const _ of generator.generate(prompt, {
          ...options,
          max_new_tokens: 100,
          signal: controller.signal,
        }))
          if (++n === 3) controller.abort();
      } catch (error) {
        return error.name === "AbortError" ? n : error.name;
      }
    },
    { prompt: PROMPT, options: GREEDY },
  );
  assert.equal(nSeen, 3);
  assert.equal((await write({ ...GREEDY, max_new_tokens: 6 })).text, expected.text);
  firstText = expected.text;
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
  const disturbed = await write(options, { destroyAfter: 6 });
  assert.deepEqual(disturbed.token_ids, undisturbed.token_ids);
  assert.equal(disturbed.text, undisturbed.text);
  assert.equal(disturbed.used.requestDevice, 1);
  assert.ok(disturbed.used.createComputePipelineAsync < nFirst, "measured once");
  assert.equal(disturbed.used.createComputePipeline, 0);
  assert.deepEqual(undisturbed.info.warnings, []);
  assert.deepEqual([disturbed.info.device, disturbed.info.fallback_reason], ["webgpu", null]);
  assert.match(disturbed.info.warnings.join(), /GPU was lost .* loaded again, on webgpu/);
  const older = await page.evaluate(
    async (options) => [window.session_text, (await session.generate("", options).result).text],
    options,
  );
  assert.equal(older[1], older[0]);
});

test("a LoRA adapter writes its own text, and off costs and changes nothing", { timeout: 300_000 }, async () => {
  const options = { ...GREEDY, max_new_tokens: 8 };
  const afresh = { ...options, prefix_reuse: false }; // whatever was written before, it takes the same
  await write(afresh); // the cache has room from here on
  const before = await write(afresh);
  const choose = (name) => page.evaluate((name) => generator.setAdapter(name), name);
  const { rank, active_weight } = await page.evaluate(() => generator.loadAdapter("/lora/", { name: "learnt" }));
  assert.deepEqual([rank, active_weight], [2, 0]);
  await choose("learnt");
  const first = await write(options);
  assert.notDeepEqual(first.token_ids, before.token_ids);
  assert.equal(first.used.createComputePipeline, 0, "none that blocks the device");
  const short = await write({ ...options, max_new_tokens: 4 });
  const on = await write(options);
  assert.deepEqual(on.token_ids, first.token_ids);
  for (const name of ["createBuffer", "createBindGroup", "createShaderModule", "createComputePipelineAsync"])
    assert.equal(on.used[name], 0, name);
  const perToken = (on.used.dispatchWorkgroups - short.used.dispatchWorkgroups) / 4;
  assert.ok(perToken <= 2 + 5 * 4 + 2 + 2 * 4, `${perToken} dispatches`);
  // side by side, one with it and one without
  const together = await page.evaluate(
    async ({ prompt, options }) => {
      const texts = [null, "learnt"].map((adapter) => generator.complete(prompt, { ...options, adapter }));
      return (await Promise.all(texts)).map(({ token_ids }) => token_ids);
    },
    { prompt: PROMPT, options },
  );
  assert.deepEqual(together, [before.token_ids, on.token_ids]);
  // to another device and on
  const disturbed = await write(options, { destroyAfter: 4 });
  assert.deepEqual(disturbed.token_ids, on.token_ids);
  assert.equal(disturbed.used.requestDevice, 1);
  // lost while nobody writes: what is added to the device that is gone is added to the next
  await page.evaluate(() => worker.tell({ destroyNow: true }));
  const lost = await page.evaluate(
    async ({ prompt, options }) => (await generator.complete(prompt, { ...options, adapter: { learnt: 2 } })).token_ids,
    { prompt: PROMPT, options },
  );
  const again = await page.evaluate(
    async ({ prompt, options }) => (await generator.complete(prompt, { ...options, adapter: { learnt: 2 } })).token_ids,
    { prompt: PROMPT, options },
  );
  assert.deepEqual(lost, again);
  await choose(null);
  await write(afresh); // that of the new device too
  const off = await write(afresh);
  assert.deepEqual(off.token_ids, before.token_ids);
  assert.equal(off.used.dispatchWorkgroups, before.used.dispatchWorkgroups);
  assert.equal(await page.evaluate(() => generator.unloadAdapter("learnt")), true);
});

test("a LoRA adapter that finds no room on the GPU fails its text alone", { timeout: 300_000 }, async () => {
  const r = await page.evaluate(
    async ({ prompt, options }) => {
      const worker = watched({ vendor: "acme", full: "LoRA" });
      const generator = await gpt2.createGenerator("demo", { device: "webgpu", worker, adapter: "/lora/" });
      const write = (adapter) =>
        generator.complete(prompt, { ...options, adapter }).then(
          ({ token_ids }) => token_ids,
          ({ code, message }) => ({ code, message }),
        );
      const refused = await write("lora");
      const without = await write(null);
      await worker.tell({ isFull: false });
      const later = await write("lora");
      const { device, warnings } = generator.info;
      await generator.dispose();
      return { refused, without, later, device, warnings };
    },
    { prompt: PROMPT, options: { ...GREEDY, max_new_tokens: 4 } },
  );
  assert.equal(r.refused.code, "out_of_memory");
  assert.match(r.refused.message, /GPU memory: the LoRA adapter/);
  assert.deepEqual([r.without.length, r.later.length], [4, 4]);
  assert.notDeepEqual(r.later, r.without);
  assert.deepEqual([r.device, r.warnings], ["webgpu", []]);
});

test("where there is no other GPU the CPU goes on, and it is said", { timeout: 300_000 }, async () => {
  const options = { ...GREEDY, max_new_tokens: 10 };
  const undisturbed = await write(options);
  const disturbed = await write(options, { destroyAfter: 5, isGone: true });
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
        const generator = await gpt2.createGenerator("demo", {
          device,
          worker: watched({ broken: "embed", vendor: "acme" }),
        });
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
  const found = await page.evaluate(
    async ({ prompt, options }) => {
      await generator.dispose();
      await openWatched({ vendor: "acme", withoutSubgroups: true });
      const { text } = await generator.complete(prompt, options);
      const { withSubgroups, createBuffer, destroy } = await worker.tell({});
      const happened = [];
      worker.addEventListener("told", ({ data }) => happened.push(data));
      worker.terminate = () => {
        happened.push("ended");
        Worker.prototype.terminate.call(worker);
      };
      const running = generator.complete("Once", { max_new_tokens: 200 }).catch((error) => error.code);
      await generator.dispose();
      const code = await generator.stats().catch((error) => error.code);
      return { text, withSubgroups, createBuffer, destroy, happened, codes: [code, await running] };
    },
    { prompt: PROMPT, options: { ...GREEDY, max_new_tokens: 6 } },
  );
  const { text, createBuffer, ...rest } = found;
  assert.ok(createBuffer > 20);
  const happened = [{ devicesLeft: 0 }, "ended"];
  assert.deepEqual(rest, { withSubgroups: 0, destroy: 0, happened, codes: ["disposed", "disposed"] });
  assert.equal(text, firstText, "with subgroups and without");
  const again = await remembered();
  const [kept, measured] = [again.values[0], values[0]].map((value) => Object.keys(JSON.parse(value)));
  assert.deepEqual(kept, measured, "what nobody measured is not believed");
});

test("a GPU whose halves do not compile goes on without them", { timeout: 300_000 }, async () => {
  const load = () =>
    page.evaluate(
      async ({ prompt, options }) => {
        const worker = watched({ vendor: "boast", claimsF16: true });
        const generator = await gpt2.createGenerator("demo", { device: "webgpu", worker });
        const { text } = await generator.complete(prompt, options);
        const { requestDevice, withF16 } = await worker.tell({});
        const { device, warnings } = generator.info;
        await generator.dispose();
        return { text, requestDevice, withF16, device, warnings };
      },
      { prompt: PROMPT, options: { ...GREEDY, max_new_tokens: 6 } },
    );
  const expected = { text: firstText, withF16: 1, device: "webgpu", warnings: [] };
  // measured: it is not chosen, and costs nothing else
  assert.deepEqual(await load(), { ...expected, requestDevice: 1 });
  const { keys, values } = await remembered();
  assert.deepEqual(
    keys.map((key) => key.split(" ")[0]),
    ["acme", "boast"],
  );
  assert.equal(JSON.parse(values[1]).tile_f16, false);
  // remembered, of a driver that could once: the device is opened again without, and measured
  await remembered(JSON.stringify({ ...JSON.parse(values[1]), tile_f16: true }), 1);
  assert.deepEqual(await load(), { ...expected, requestDevice: 2 });
  assert.equal(JSON.parse((await remembered()).values[1]).tile_f16, false);
});

test("a GPU without room for the weights is named, and auto goes on with the CPU", { timeout: 300_000 }, async () => {
  const load = (device, full) =>
    page.evaluate(
      async ([device, full]) => {
        try {
          const worker = watched({ vendor: "acme", full });
          const generator = await gpt2.createGenerator("demo", { device, worker });
          const { text } = await generator.complete("Once upon a time", { do_sample: false, max_new_tokens: 3 });
          const { info } = generator;
          const { requestDevice, destroy } = await worker.tell({});
          await generator.dispose();
          return { info, text, requestDevice, destroy };
        } catch (error) {
          return { code: error.code, device: error.device, n_bytes: Number(error.n_bytes), message: error.message };
        }
      },
      [device, full],
    );
  const named = await load("webgpu", "weights 0");
  assert.deepEqual([named.code, named.device], ["out_of_memory", "webgpu"]);
  assert.match(named.message, /out of GPU memory: the packed weights/);
  assert.ok(named.n_bytes > 1e6);
  // at the first step, and at one of the last: the memory of the buffers between kernels, and that of the first pass
  for (const label of ["weights 0", "hidden", "cache"]) {
    const { info, text, requestDevice } = await load("auto", label);
    assert.deepEqual([info.device, info.dtype], ["wasm", "q8"], label);
    assert.match(info.fallback_reason, /out of GPU memory/);
    assert.equal(requestDevice, 1, `${label}: the same GPU without its features would be as full`);
    assert.ok(text.length > 0);
  }
});

test("a text that finds no room on the GPU fails alone", { timeout: 300_000 }, async () => {
  const r = await page.evaluate(async () => {
    const worker = watched({ vendor: "acme", full: "cache" });
    await worker.tell({ isFull: false });
    const generator = await gpt2.createGenerator("demo", { device: "webgpu", worker });
    const ids = Array.from({ length: 120 }, (_, i) => (i * 7) % 500);
    const write = (max_new_tokens) =>
      generator.complete(ids, { max_new_tokens, do_sample: false, eos_token_id: null }).then(
        ({ token_ids }) => token_ids,
        ({ code, message }) => ({ code, message }),
      );
    const expected = await write(20);
    const other = generator.session();
    await other.generate(ids, { max_new_tokens: 1, do_sample: false, eos_token_id: null }).result;
    await worker.tell({ isFull: true });
    const refused = await other
      .generate("", { max_new_tokens: 20, do_sample: false, eos_token_id: null })
      .result.catch(({ code, message }) => ({ code, message }));
    const meanwhile = await write(20);
    await worker.tell({ isFull: false });
    const later = await write(20);
    const { requestDevice } = await worker.tell({});
    const { device, warnings } = generator.info;
    await generator.dispose();
    return { expected, refused, meanwhile, later, requestDevice, device, warnings };
  });
  assert.equal(r.expected.length, 20);
  assert.equal(r.refused.code, "out_of_memory");
  assert.match(r.refused.message, /room for 256 tokens/);
  assert.deepEqual(r.meanwhile, r.expected, "what has its room goes on");
  assert.deepEqual(r.later, r.expected);
  assert.deepEqual([r.requestDevice, r.device, r.warnings], [1, "webgpu", []]);
});
