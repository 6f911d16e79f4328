// The package as its users have it: unpacked beside a plain page, no bundler, in a real browser.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { WWW, site } from "./site.mjs";

let browser, page, served;

before(async () => {
  served = await site();
  browser = await launch();
  page = await freshPage();
});
after(async () => {
  await browser?.close();
  served?.close();
});

/** A page in a context of its own: empty storage. */
async function freshPage() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(served.url);
  await page.evaluate(async () => (window.gpt2 = await import("/package/dist/index.js")));
  return page;
}

/** Runs `body` in the page; errors come back as plain objects. */
const run = (body, argument, on = page) =>
  on.evaluate(
    async ([source, argument]) => {
      const plain = (e) => ({ name: e.name, message: e.message, ...e, is_base: e instanceof gpt2.Gpt2Error });
      return await new Function("argument", "plain", `return (${source})(argument, plain)`)(argument, plain);
    },
    [body.toString(), argument],
  );

const GREEDY = { max_new_tokens: 24, do_sample: false, eos_token_id: null };

test("CPU and WebGPU, asked for by name, write the same greedy text", { timeout: 300_000 }, async () => {
  const write = (device) =>
    run(async ({ device, GREEDY }) => {
      const generator = await gpt2.createGenerator("demo", { device });
      const { text, token_ids } = await generator.complete("Once upon a time", GREEDY);
      const stats = await generator.stats();
      await generator.dispose();
      return { text, token_ids, info: generator.info, stats };
    }, { device, GREEDY });
  const [cpu, gpu] = [await write("wasm"), await write("webgpu")];
  assert.equal(cpu.info.device, "wasm");
  assert.equal(gpu.info.device, "webgpu");
  assert.match(gpu.info.adapter, /swiftshader/i);
  assert.match(gpu.info.self_test, /^passed/);
  assert.equal(cpu.token_ids.length, 24);
  assert.deepEqual(gpu.token_ids, cpu.token_ids);
  assert.equal(gpu.text, cpu.text);
  assert.equal(cpu.stats.dispatches_per_token, null);
  assert.ok(gpu.stats.dispatches_per_token > 10);
  assert.ok(cpu.stats.token_ms.p50 > 0 && cpu.stats.token_ms.p99 >= cpu.stats.token_ms.p50 && cpu.stats.bytes_held > 1e6);
});

test("auto never takes a software adapter, and says why", async () => {
  const info = await run(async () => {
    const generator = await gpt2.createGenerator();
    await generator.dispose();
    return generator.info;
  });
  assert.equal(info.device, "wasm");
  assert.match(info.fallback_reason, /software adapter/);
  assert.deepEqual([info.model, info.dtype, info.context_window, info.parameters], ["demo", "q8", 256, 1933760]);
  assert.ok(info.threads >= 1);
});

test("streams: chunks add up, seeds repeat, recipes replay", async () => {
  const r = await run(async () => {
    const generator = (window.generator ??= await gpt2.createGenerator("demo", { device: "wasm" }));
    const options = { max_new_tokens: 30, temperature: 0.9, top_k: 40, seed: 42n, eos_token_id: null, top_logprobs: 2, output_attentions: true };
    const stream = generator.generate("The old king", options);
    const chunks = [];
    for await (const chunk of stream) chunks.push({ ...chunk, attentions: chunk.attentions.map((a) => a.length) });
    const result = await stream.result;
    const again = await generator.complete("The old king", { ...options, seed: "42" });
    const replayed = await generator.replay(JSON.parse(JSON.stringify(result.recipe))).result;
    const reader = generator.generate("The old king", { ...options, seed: 42 }).toReadableStream().getReader();
    let streamed = "";
    for (let read; !(read = await reader.read()).done; ) streamed += read.value.text;
    const random = await generator.complete("The old king", { temperature: 1, max_new_tokens: 3 });
    const decoded = await generator.tokenizer.decode(result.token_ids);
    const count = await generator.tokenizer.count("The old king");
    return { chunks, result, again, replayed, streamed, random, decoded, count };
  });
  assert.equal(r.chunks.map((c) => c.text).join(""), r.result.text);
  assert.deepEqual(r.chunks.map((c) => c.token_id), r.result.token_ids);
  assert.equal(r.decoded, r.result.text);
  for (const text of [r.again.text, r.replayed.text, r.streamed]) assert.equal(text, r.result.text);
  assert.equal(r.result.finish_reason, "length");
  assert.deepEqual(r.result.usage, { prompt_tokens: r.count, completion_tokens: 30 });
  assert.equal(r.result.recipe.seed, 42);
  assert.ok(Number.isSafeInteger(r.random.recipe.seed));
  assert.ok(r.result.timings.prompt_ms > 0 && r.result.timings.predicted_per_second > 0);
  for (const [i, chunk] of r.chunks.entries()) {
    assert.ok(chunk.logprob <= 0 && chunk.top_logprobs.length === 2);
    // 4 layers of [5 heads, tokens so far]
    assert.deepEqual(chunk.attentions, Array(4).fill(5 * (r.count + i)));
  }
});

test("abort, break, interrupt and queueing", async () => {
  const r = await run(async (_, plain) => {
    const generator = (window.generator ??= await gpt2.createGenerator("demo", { device: "wasm" }));
    const long = { max_new_tokens: 200, do_sample: false, eos_token_id: null };
    const controller = new AbortController();
    const aborted = generator.generate("The old king", { ...long, signal: controller.signal });
    let n = 0;
    let abort_error;
    try {
      for await (const _ of aborted) if (++n === 3) controller.abort();
    } catch (error) {
      abort_error = { name: error.name, is_dom: error instanceof DOMException };
    }
    const result_error = await aborted.result.catch((e) => e.name);

    const broken = generator.generate("The old king", long);
    for await (const _ of broken) break;
    const broken_error = await broken.result.catch((e) => e.name);

    const soft = generator.generate("The old king", long);
    let seen = 0;
    for await (const _ of soft) if (++seen === 5) soft.interrupt();
    const interrupted = await soft.result;

    const already = await generator.complete("x", { signal: AbortSignal.abort() }).catch((e) => e.name);
    const both = await Promise.all(["The old king", "Once upon"].map((p) => generator.complete(p, { max_new_tokens: 6, do_sample: false, eos_token_id: null })));
    const alone = await generator.complete("Once upon", { max_new_tokens: 6, do_sample: false, eos_token_id: null });
    return { n, abort_error, result_error, broken_error, interrupted, seen, already, both, alone };
  });
  assert.deepEqual(r.abort_error, { name: "AbortError", is_dom: true });
  assert.ok(r.n >= 3);
  assert.deepEqual([r.result_error, r.broken_error, r.already], ["AbortError", "AbortError", "AbortError"]);
  assert.equal(r.interrupted.finish_reason, "interrupt");
  assert.ok(r.interrupted.token_ids.length >= 5 && r.interrupted.token_ids.length < 200);
  assert.equal(r.both[1].text, r.alone.text);
});

test("sessions go on, branch and rewind", async () => {
  const r = await run(async () => {
    const generator = (window.generator ??= await gpt2.createGenerator("demo", { device: "wasm" }));
    const options = { max_new_tokens: 8, do_sample: false, eos_token_id: null };
    const whole = await generator.complete("The old king", { ...options, max_new_tokens: 16 });
    const session = generator.session();
    const first = await session.generate("The old king", options).result;
    const usage = session.context_usage;
    const branch = session.clone();
    const second = await session.generate("", options).result;
    await branch.rewind(8);
    const again = await branch.generate("", options).result;
    await branch.append(" and");
    const appended = branch.context_usage;
    const too_far = await branch.rewind(1000).catch((e) => e.code);
    const replayed = await generator.replay(second.recipe).result;
    const broken = session.context_usage;
    for await (const _ of session.generate("", { ...options, max_new_tokens: 50 })) break;
    await new Promise((resolve) => setTimeout(resolve, 200));
    const grown = session.context_usage - broken;
    await session.dispose();
    await session.dispose();
    const gone = await session.append("x").catch((e) => e.message);
    return { whole, first, second, again, usage, appended, too_far, gone, replayed, grown, window: branch.context_window };
  });
  assert.equal(r.first.text + r.second.text, r.whole.text);
  assert.equal(r.again.text, r.first.text);
  assert.equal(r.replayed.text, r.second.text, "a turn's recipe holds all of the text before it");
  assert.ok(r.grown >= 1, "what a broken-off turn wrote is counted");
  assert.equal(r.usage, r.first.usage.prompt_tokens + 8);
  assert.ok(r.appended > r.usage && r.window === 256);
  assert.equal(r.too_far, "invalid_option");
  assert.match(r.gone, /disposed/);
});

test("a text is scored", async () => {
  const score = await run(async () => {
    const generator = (window.generator ??= await gpt2.createGenerator("demo", { device: "wasm" }));
    return generator.score("Once upon a time there was a king.");
  });
  assert.equal(score.tokens.map((t) => t.text).join(""), "Once upon a time there was a king.");
  assert.equal(score.tokens[0].logprob, null);
  assert.ok(Math.abs(score.perplexity - Math.exp(score.nll)) < 1e-6);
});

test("wrong options are errors that name them", async () => {
  const errors = await run(async (_, plain) => {
    const generator = (window.generator ??= await gpt2.createGenerator("demo", { device: "wasm" }));
    const of = (promise) => promise.then(() => "no error", plain);
    return [
      await of(generator.complete("x", { temperature: -1 })),
      await of(generator.complete("x", { max_tokens: 3 })),
      await of(generator.complete("x", { top_p: NaN })),
      await of(generator.complete([1.5])),
      await of(generator.complete([undefined, 5])),
      await of(generator.tokenizer.decode("12")),
      await of(generator.score("x", { top_logprobs: 3 })),
      await of(generator.complete("x", { signal: new AbortController() })),
      await of(gpt2.createGenerator("a/b", { remote_host: "nonsense" })),
      await of(generator.complete([5000])),
      await of(gpt2.createGenerator("demo", { device: "gpu" })),
      await of(gpt2.createGenerator("demo", { quantized: true })),
      await of(gpt2.createGenerator("demo", { dtype: "int8" })),
      await of(gpt2.createGenerator("a b c")),
    ].map((e) => ({ name: e.name, code: e.code, option: e.option, is_base: e.is_base }));
  });
  const options = ["temperature", "max_tokens", "top_p", "prompt", "prompt", "ids", "top_logprobs", "signal", "remote_host", "prompt", "device", "quantized", "dtype", "model"];
  assert.deepEqual(errors, options.map((option) => ({ name: "InvalidOptionError", code: "invalid_option", option, is_base: true })));
});

test("a folder served from localhost loads by URL, with progress, and again from the cache when offline", async () => {
  const own = await freshPage();
  const load = () =>
    run(async () => {
      const events = [];
      const generator = await gpt2.createGenerator("/models/whole", { device: "wasm", progress_callback: (e) => events.push(e) });
      const { text } = await generator.complete("Once upon a time", { max_new_tokens: 8, do_sample: false });
      await generator.dispose();
      return { text, events, cached: await gpt2.isCached("/models/whole"), models: await gpt2.listModels() };
    }, null, own);
  const first = await load();
  const total = first.events.filter((e) => e.status === "progress_total");
  assert.equal(total[0].progress, 0);
  assert.equal(total.at(-1).progress, 100);
  assert.ok(total.every((e, i) => i === 0 || e.progress >= total[i - 1].progress));
  assert.equal(first.events.at(-1).status, "ready");
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
  const own = await freshPage();
  const estimate = (model, options = {}) => run(({ model, options }) => gpt2.estimate(model, options), { model, options }, own);
  const large = () => served.requests.filter((url) => url.endsWith("model.safetensors")).length;
  served.hooks.intercept = (request) => {
    if (request.method === "HEAD") served.requests.pop(); // a question, not a download
    return false;
  };
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
  assert.ok(warm.cached_bytes > cold.device_bytes && warm.cached_bytes < cold.download_bytes, "the packed weights and the small files");
  const other = await estimate("/models/whole", { device: "wasm", dtype: "q4" });
  assert.ok(other.download_bytes >= 3872544, "another format is made from the checkpoint, which is fetched again");
  served.hooks.intercept = undefined;
  await own.context().close();
});

test("a hub tells the SHA-256 of a large file, and it is held to it", async () => {
  let digest = createHash("sha256").update(readFileSync(path.join(WWW, "demo/model.safetensors"))).digest("hex");
  served.hooks.intercept = (request, response) => {
    const [, kind, file] = /^\/some\/gpt2\/(resolve|raw)\/main\/(.+)$/.exec(request.url) ?? [];
    if (kind === "resolve") response.writeHead(302, { Location: `/models/whole/${file}` }).end();
    if (kind === "raw") response.end(`version https://git-lfs.github.com/spec/v1\noid sha256:${digest}\nsize 3872544\n`);
    return kind !== undefined;
  };
  const load = () => run((_, plain) => gpt2.createGenerator("some/gpt2", { device: "wasm", cache: false, remote_host: location.origin }).then((g) => g.dispose(), plain));
  assert.equal(await load(), undefined);
  const right = digest;
  digest = "0".repeat(64);
  const error = await load();
  served.hooks.intercept = undefined;
  assert.deepEqual([error.name, error.expected, error.found], ["IntegrityError", digest, right]);
});

test("files from disk, a hub id with a revision on a mirror, and a fetch of the caller's", async () => {
  served.hooks.intercept = (request, response) => {
    const prefix = "/some/gpt2/resolve/v1.0/";
    if (request.url.startsWith(prefix)) response.writeHead(302, { Location: `/models/whole/${request.url.slice(prefix.length)}` }).end();
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
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) files[name] = await (await fetch(`/models/whole/${name}`)).blob();
    const asked = [];
    const own_fetch = (url, init) => (asked.push(url), fetch(url, { ...init, headers: { authorization: "Bearer x" } }));
    return {
      demo: await write("demo"),
      record: await write({ files }),
      list: await write({ files: Object.entries(files).map(([name, blob]) => new File([blob], name)) }),
      hub: await write("some/gpt2", { revision: "v1.0", remote_host: location.origin }),
      fetched: await write("/models/whole", { fetch: own_fetch }),
      asked,
    };
  }, GREEDY);
  served.hooks.intercept = undefined;
  for (const name of ["record", "list", "hub", "fetched"]) assert.equal(r[name], r.demo, name);
  assert.ok(r.asked.some((url) => url.endsWith("/models/whole/model.safetensors")));
});

test("broken checkpoints are errors that name file, tensor, expected and found", async () => {
  const load = (name) => run((name, plain) => gpt2.createGenerator(`/models/${name}`, { device: "wasm" }).then(() => "loaded", plain), name);
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
  const attempt = (options = "{}") =>
    run((options, plain) => gpt2.createGenerator("/models/whole", { device: "wasm", cache: false, ...JSON.parse(options) }).then(() => "loaded", plain), options);
  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("model.safetensors")) return false;
    response.writeHead(503).end();
    return true;
  };
  const status = await attempt();
  assert.deepEqual([status.name, status.code, status.status], ["NetworkError", "network", 503]);

  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("model.safetensors")) return false;
    response.writeHead(200, { "Content-Length": 3872544 });
    response.write(Buffer.alloc(8), () => setTimeout(() => response.destroy(), 200));
    return true;
  };
  const cut = await attempt();
  assert.ok(cut.name === "NetworkError" || cut.name === "CheckpointError", cut.name);

  served.hooks.intercept = (request, response) => {
    if (!request.url.endsWith("model.safetensors")) return false;
    response.writeHead(200, { "Content-Length": 3872544 });
    response.write(Buffer.from([64, 0, 0, 0, 0, 0, 0, 0])); // and then nothing
    return true;
  };
  const aborted = await run(async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 500);
    const start = performance.now();
    const error = await gpt2.createGenerator("/models/whole", { device: "wasm", cache: false, signal: controller.signal }).catch((e) => e);
    return { name: error.name, is_dom: error instanceof DOMException, ms: performance.now() - start };
  });
  served.hooks.intercept = undefined;
  assert.deepEqual([aborted.name, aborted.is_dom], ["AbortError", true]);
  assert.ok(aborted.ms < 2000);
});

test("a cache that cannot be used is told and does not stop loading", async () => {
  const own = await freshPage();
  const warnings = await run(async () => {
    // a worker that has no IndexedDB, as in some private windows
    const script = `Object.defineProperty(globalThis, "indexedDB", { get() { throw new DOMException("denied", "SecurityError"); } }); import(${JSON.stringify(new URL("/package/dist/worker.js", location.href).href)}).then(() => postMessage("up"));`;
    const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
    await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
    const generator = await gpt2.createGenerator("/models/whole", { device: "wasm", worker });
    await generator.complete("x", { max_new_tokens: 1 });
    await generator.dispose();
    return generator.info.warnings;
  }, null, own);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /not cached: IndexedDB cannot be used/);
  await own.context().close();
});

test("what is asked of a disposed generator rejects", async () => {
  const r = await run(async (_, plain) => {
    const generator = await gpt2.createGenerator("demo", { device: "wasm" });
    const running = generator.complete("x", { max_new_tokens: 200, do_sample: false, eos_token_id: null }).catch(plain);
    await generator.dispose();
    await generator.dispose();
    return [await running, await generator.complete("x").catch(plain)].map((e) => e.code);
  });
  assert.deepEqual(r, ["disposed", "disposed"]);
});
