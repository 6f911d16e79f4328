// The package as its users have it, unpacked beside a plain page, no bundler, in a real browser: what a generator does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";

const stage = await openStage();
const page = await openTab(await stage.browser.newContext(), stage.served.url);
const run = (body, argument) => runInTab(page, body, argument);
/** The generator that tests share in the page, unless they are about loading it. */
await run(async () => {
  window.generator = await gpt2.createGenerator("demo", { device: "wasm" });
});

const GREEDY = { max_new_tokens: 24, do_sample: false, eos_token_id: null };

test("CPU and WebGPU, asked for by name, write the same greedy text", { timeout: 300_000 }, async () => {
  const write = (device) =>
    run(
      async ({ device, GREEDY }) => {
        const generator = await gpt2.createGenerator("demo", { device });
        const { text, token_ids } = await generator.complete("Once upon a time", GREEDY);
        const stats = await generator.stats();
        await generator.dispose();
        return { text, token_ids, info: generator.info, stats };
      },
      { device, GREEDY },
    );
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
  assert.ok(
    cpu.stats.token_ms.p50 > 0 && cpu.stats.token_ms.p99 >= cpu.stats.token_ms.p50 && cpu.stats.bytes_held > 1e6,
  );
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
    const options = {
      max_new_tokens: 30,
      temperature: 0.9,
      top_k: 40,
      seed: 42n,
      eos_token_id: null,
      top_logprobs: 2,
      output_attentions: true,
    };
    const stream = generator.generate("The old king", options);
    const chunks = [];
    for await (const chunk of stream) chunks.push({ ...chunk, attentions: chunk.attentions.map((a) => a.length) });
    const result = await stream.result;
    const again = await generator.complete("The old king", { ...options, seed: "42" });
    const replayed = await generator.replay(JSON.parse(JSON.stringify(result.recipe))).result;
    const readable = generator.generate("The old king", { ...options, seed: 42 }).toReadableStream();
    let streamed = "";
    for await (const chunk of readable) streamed += chunk.text;
    const random = await generator.complete("The old king", { temperature: 1, max_new_tokens: 3 });
    const decoded = await generator.tokenizer.decode(result.token_ids);
    const count = await generator.tokenizer.count("The old king");
    return { chunks, result, again, replayed, streamed, random, decoded, count };
  });
  assert.equal(r.chunks.map((c) => c.text).join(""), r.result.text);
  assert.deepEqual(
    r.chunks.map((c) => c.token_id),
    r.result.token_ids,
  );
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
  const r = await run(async () => {
    const long = { max_new_tokens: 200, do_sample: false, eos_token_id: null };
    const controller = new AbortController();
    const aborted = generator.generate("The old king", { ...long, signal: controller.signal });
    let n = 0;
    let abortError;
    try {
      for await (const _ of aborted) if (++n === 3) controller.abort();
    } catch (error) {
      abortError = { name: error.name, is_dom: error instanceof DOMException };
    }
    const resultError = await aborted.result.catch((e) => e.name);

    const broken = generator.generate("The old king", long);
    for await (const _ of broken) break;
    const brokenError = await broken.result.catch((e) => e.name);

    const soft = generator.generate("The old king", long);
    let seen = 0;
    for await (const _ of soft) if (++seen === 5) soft.interrupt();
    const interrupted = await soft.result;

    const already = await generator.complete("x", { signal: AbortSignal.abort() }).catch((e) => e.name);
    const both = await Promise.all(
      ["The old king", "Once upon"].map((p) =>
        generator.complete(p, { max_new_tokens: 6, do_sample: false, eos_token_id: null }),
      ),
    );
    const alone = await generator.complete("Once upon", { max_new_tokens: 6, do_sample: false, eos_token_id: null });
    return { n, abortError, resultError, brokenError, interrupted, seen, already, both, alone };
  });
  assert.deepEqual(r.abortError, { name: "AbortError", is_dom: true });
  assert.ok(r.n >= 3);
  assert.deepEqual([r.resultError, r.brokenError, r.already], ["AbortError", "AbortError", "AbortError"]);
  assert.equal(r.interrupted.finish_reason, "interrupt");
  assert.ok(r.interrupted.token_ids.length >= 5 && r.interrupted.token_ids.length < 200);
  assert.equal(r.both[1].text, r.alone.text);
});

test("sessions go on, branch and rewind", async () => {
  const r = await run(async () => {
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
    const tooFar = await branch.rewind(1000).catch((e) => e.code);
    const replayed = await generator.replay(second.recipe).result;
    const broken = session.context_usage;
    const cut = session.generate("", { ...options, max_new_tokens: 50 });
    for await (const _ of cut) break;
    await cut.result.catch(() => undefined);
    // by the first answer the session has asked how much it holds now, and the second answer is behind that one
    for (let i = 0; i < 2; i++) await generator.tokenizer.count("x");
    const grown = session.context_usage - broken;
    await session.dispose();
    await session.dispose();
    const gone = await session.append("x").catch((e) => e.message);
    return {
      whole,
      first,
      second,
      again,
      usage,
      appended,
      tooFar,
      gone,
      replayed,
      grown,
      window: branch.context_window,
    };
  });
  assert.equal(r.first.text + r.second.text, r.whole.text);
  assert.equal(r.again.text, r.first.text);
  assert.equal(r.replayed.text, r.second.text, "a turn's recipe holds all of the text before it");
  assert.ok(r.grown >= 1, "what a broken-off turn wrote is counted");
  assert.equal(r.usage, r.first.usage.prompt_tokens + 8);
  assert.ok(r.appended > r.usage && r.window === 256);
  assert.equal(r.tooFar, "invalid_option");
  assert.match(r.gone, /disposed/);
});

test("a text is scored", async () => {
  const score = await run(async () => {
    return generator.score("Once upon a time there was a king.");
  });
  assert.equal(score.tokens.map((t) => t.text).join(""), "Once upon a time there was a king.");
  assert.equal(score.tokens[0].logprob, null);
  assert.ok(Math.abs(score.perplexity - Math.exp(score.nll)) < 1e-6);
});

test("wrong options are errors that name them", async () => {
  const errors = await run(async (_, plain) => {
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
    ].map((e) => ({ name: e.name, code: e.code, option: e.option, isBase: e.isBase }));
  });
  const options = [
    "temperature",
    "max_tokens",
    "top_p",
    "prompt",
    "prompt",
    "ids",
    "top_logprobs",
    "signal",
    "remote_host",
    "prompt",
    "device",
    "quantized",
    "dtype",
    "model",
  ];
  assert.deepEqual(
    errors,
    options.map((option) => ({ name: "InvalidOptionError", code: "invalid_option", option, isBase: true })),
  );
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
