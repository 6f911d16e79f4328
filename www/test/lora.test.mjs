// LoRA adapters through the package, held against PEFT's numbers (tests/README.md tells where these are).
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { tensorsOf } from "./safetensors.mjs";
import { WWW } from "./site.mjs";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";

const SHARED = process.env.GPT2_WEB_SHARED ?? path.resolve(WWW, "../../shared");
const LEARN = path.join(SHARED, "learn");
const isHere = existsSync(LEARN);
if (process.env.CI || process.env.GPT2_WEB_SHARED) assert.ok(isHere, `${LEARN} is missing; tests/README.md says why`);
const skip = !isHere && "PEFT's numbers are not here";

const stage = await openStage();
if (isHere) {
  const root = path.join(stage.served.root, "learn");
  mkdirSync(root);
  for (const folder of ["trained", "lora"])
    cpSync(path.join(LEARN, folder), path.join(root, folder), { recursive: true });
  // prompts are ids, so this tokenizer is not used
  cpSync(path.join(WWW, "demo/tokenizer.json"), path.join(root, "trained/tokenizer.json"));
}
const page = await openTab(await stage.browser.newContext(), stage.served.url);
const run = (body, argument) => runInTab(page, body, argument);

/** PEFT's logits by name, [16, 96] each, and the prompt that they belong to. */
function expectedLogits() {
  const numbers = (data) => new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
  const tensors = tensorsOf(readFileSync(path.join(LEARN, "lora/logits.safetensors")));
  const { data } = Object.fromEntries(tensorsOf(readFileSync(path.join(LEARN, "batches.safetensors")))).prompt;
  const prompt = Array.from({ length: data.length / 8 }, (_, i) => Number(data.readBigInt64LE(8 * i)));
  return { prompt, logits: Object.fromEntries(tensors.map(([name, { data }]) => [name, numbers(data)])) };
}

/** Row i of logits as natural logarithms of probabilities. */
function logprobs(logits, i, n) {
  const row = logits.subarray(i * n, (i + 1) * n);
  const largest = Math.max(...row);
  const log = largest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  return row.map((x) => x - log);
}

const V = 96;

if (isHere) {
  await run(async () => {
    window.tiny = await gpt2.createGenerator("/learn/trained/", { device: "wasm", dtype: "fp32", threads: 1 });
    /** Of each beginning of a prompt, the log-probabilities of all tokens that may follow. */
    window.allLogprobs = async (prompt, adapter) => {
      const rows = prompt.map(async (_, i) => {
        const options = {
          max_new_tokens: 1,
          do_sample: false,
          eos_token_id: null,
          top_logprobs: 96,
          prefix_reuse: false,
        };
        if (adapter !== undefined) options.adapter = adapter;
        for await (const { top_logprobs } of tiny.generate(prompt.slice(0, i + 1), options)) {
          const row = new Array(96);
          for (const { token_id, logprob } of top_logprobs) row[token_id] = logprob;
          return row;
        }
      });
      return (await Promise.all(rows)).flat();
    };
  });
}

function assertClose(name, found, logits) {
  const worst = Math.max(
    ...Array.from({ length: 16 }, (_, i) => {
      const row = logprobs(logits, i, V);
      return Math.max(...row.map((x, k) => Math.abs(x - found[i * V + k])));
    }),
  );
  assert.ok(worst < 2e-4, `${name}: ${worst}`); // the logits' own tolerance is 1e-4, of each of the two numbers subtracted
}

test("what PEFT saves gives PEFT's numbers, and switching off the bits of before", { skip }, async () => {
  const { prompt, logits } = expectedLogits();
  const names = ["adapter", "init", "rslora", "bf16", "pattern"];
  const found = await run(
    async ([prompt, names]) => {
      const all = { base: await allLogprobs(prompt) };
      const infos = [];
      for (const name of names) infos.push(await tiny.loadAdapter(`/learn/lora/${name}/`));
      for (const name of names) {
        await tiny.setAdapter(name);
        all[name] = await allLogprobs(prompt);
        all[`${name}, off`] = await allLogprobs(prompt, null);
      }
      const active = await tiny.listAdapters();
      all["adapter_scale_0.5"] = await allLogprobs(prompt, { adapter: 0.5 });
      all.merged = await allLogprobs(prompt, "adapter");
      all["0"] = await allLogprobs(prompt, { adapter: 0 });
      all.sum = await allLogprobs(prompt, { adapter: 0.25, bf16: 0.75 });
      await tiny.setAdapter(["adapter", "pattern"]);
      all.both = await allLogprobs(prompt);
      await tiny.setAdapter(null);
      all.off = await allLogprobs(prompt);
      const unloaded = [];
      for (const name of names) unloaded.push(await tiny.unloadAdapter(name));
      all.unloaded = await allLogprobs(prompt);
      return { all, infos, active, unloaded, again: await tiny.unloadAdapter("init"), left: await tiny.listAdapters() };
    },
    [prompt, names],
  );
  const { base } = found.all;
  for (const name of ["base", ...names, "adapter_scale_0.5", "merged"])
    assertClose(name, found.all[name], logits[name]);
  for (const name of [...names.map((name) => `${name}, off`), "0", "off", "unloaded"]) {
    assert.deepEqual(found.all[name], base, name);
  }
  assert.notDeepEqual(found.all.both, found.all.adapter);
  assert.deepEqual(
    found.infos.map(({ name, rank, weight, active_weight }) => [name, rank, weight, active_weight]),
    [
      ["adapter", 8, 1, 0],
      ["init", 8, 1, 0],
      ["rslora", 4, 1, 0],
      ["bf16", 8, 1, 0],
      ["pattern", found.infos[4].rank, 1, 0],
    ],
  );
  assert.match(found.infos[0].source, /\/learn\/lora\/adapter\/$/);
  assert.equal(found.infos[2].parameters, 2 * 4 * (32 + 96));
  assert.deepEqual(
    found.active.map(({ active_weight }) => active_weight),
    [0, 0, 0, 0, 1],
  );
  assert.deepEqual([found.unloaded, found.again, found.left], [[true, true, true, true, true], false, []]);
});

test("texts of different adapters are written side by side, each as alone", { skip }, async () => {
  const { prompt } = expectedLogits();
  const r = await run(async (prompt) => {
    for (const name of ["adapter", "rslora"]) await tiny.loadAdapter(`/learn/lora/${name}/`, { name: `my ${name}` });
    const options = { max_new_tokens: 24, seed: 7, eos_token_id: null };
    const choices = [null, "my adapter", "my rslora", { "my adapter": 0.5, "my rslora": 1 }];
    const alone = [];
    for (const adapter of choices)
      alone.push(await tiny.complete(prompt, { ...options, adapter, prefix_reuse: false }));
    const together = await Promise.all(choices.map((adapter) => tiny.complete(prompt, { ...options, adapter })));
    const several = await tiny.complete(prompt, { ...options, adapter: "my adapter", num_return_sequences: 3 });
    // a recipe says what the text was computed with, whatever is set when it is replayed
    await tiny.setAdapter("my rslora");
    const replayed = [];
    for (const { recipe } of together) {
      replayed.push((await tiny.replay(JSON.parse(JSON.stringify(recipe))).result).token_ids);
    }
    const { adapter: _, ...old } = together[0].recipe; // as one was written before there were adapters
    replayed.push((await tiny.replay(old).result).token_ids);
    // a session goes on with whatever is chosen
    const session = tiny.session();
    const first = await session.generate(prompt, { ...options, adapter: null }).result;
    await session.rewind(24);
    const second = await session.generate([], options).result;
    await tiny.setAdapter(null);
    // a text that is being written keeps what it began with
    const unloading = tiny.complete(prompt, { ...options, adapter: "my adapter" });
    await tiny.unloadAdapter("my adapter");
    const kept = await unloading;
    await tiny.unloadAdapter("my rslora");
    const texts = (all) => all.map(({ token_ids }) => token_ids);
    return {
      alone: texts(alone),
      together: texts(together),
      replayed,
      several: several.sequences[0].token_ids,
      session: texts([first, second]),
      kept: kept.token_ids,
      adapters: together.map(({ recipe }) => recipe.adapter),
      stats: await tiny.stats(),
    };
  }, prompt);
  const [none, adapter, rslora] = r.alone;
  assert.equal(new Set(r.alone.map(String)).size, 4);
  assert.deepEqual(r.together, r.alone);
  assert.deepEqual(r.replayed, [...r.alone, none]);
  assert.deepEqual(r.several, adapter);
  assert.deepEqual(r.session, [none, rslora]);
  assert.deepEqual(r.kept, adapter);
  assert.deepEqual(r.adapters, [null, { "my adapter": 1 }, { "my rslora": 1 }, { "my adapter": 0.5, "my rslora": 1 }]);
  assert.ok(r.stats.mean_batch_size > 1);
});

test("what does not fit is refused with the thing's name", { skip }, async () => {
  const names = readdirSync(path.join(LEARN, "lora/refused")).sort();
  const errors = await run(async (names) => {
    const found = {};
    for (const name of names) {
      found[name] = await tiny.loadAdapter(`/learn/lora/refused/${name}/`).catch((e) => [e.name, e.code, e.message]);
    }
    found["a model"] = await tiny.loadAdapter("/learn/trained/").catch((e) => [e.name, e.code, e.message]);
    return { found, left: await tiny.listAdapters() };
  }, names);
  const reasons = {
    bias: /`bias`/,
    "deeper-model": /h\.2\.attn\.c_attn\.lora_A\.weight/,
    dora: /`use_dora`/,
    "missing-tensor": /transformer\.h\.1\.mlp\.c_fc\.lora_B\.weight/,
    "modules-to-save": /`modules_to_save`/,
    "not-lora": /`peft_type`/,
    "other-model": /c_attn, c_proj and c_fc/,
    "wrong-rank": /\[4, 32\].*\[8, 32\]/,
    "wrong-shapes": /\[8, 32\].*\[8, 40\]/,
    "a model": /^adapter_config\.json: expected the configuration of a LoRA adapter/,
  };
  assert.deepEqual(Object.keys(errors.found).sort(), Object.keys(reasons).sort());
  for (const [name, reason] of Object.entries(reasons)) {
    const [kind, code, message] = errors.found[name];
    assert.deepEqual([kind, code], ["CheckpointError", "checkpoint"], name);
    assert.match(message, reason, name);
  }
  assert.deepEqual(errors.left, []);
});

test("options that name no adapter, or none that can be, are errors", { skip }, async () => {
  const r = await run(async () => {
    const told = (promise) => promise.then(JSON.stringify, (e) => `${e.code}: ${e.message}`);
    const errors = [
      await told(tiny.setAdapter("adapter")),
      await told(tiny.complete([1], { adapter: "nobody" })),
      await told(tiny.complete([1], { adapter: 3 })),
      await told(tiny.complete([1], { adapter: ["a", "a"] })),
      await told(tiny.complete([1], { adapter: { a: Number.NaN } })),
      await told(tiny.loadAdapter(7)),
      await told(tiny.loadAdapter("/learn/lora/adapter/", { weight: "1" })),
      await told(tiny.loadAdapter("/learn/lora/adapter/", { scale: 1 })),
      await told(tiny.loadAdapter("/learn/lora/nowhere/")),
      await told(tiny.loadAdapter({ files: {} })),
      await told(gpt2.createGenerator("demo", { device: "wasm", adapter: "/learn/lora/adapter/" })),
      await told(gpt2.createGenerator("demo", { adapter: 1 })),
    ];
    const { name } = await tiny.loadAdapter("/learn/lora/adapter/", { name: "mine" });
    errors.push(await told(tiny.loadAdapter("/learn/lora/init/", { name })));
    errors.push(await told(tiny.setAdapter("adapter")));
    await tiny.unloadAdapter(name);
    return errors;
  });
  const expected = [
    /^invalid_option: .*`adapter`: expected none, since none is loaded, found "adapter"/,
    /^invalid_option: .*`adapter`: .*"nobody"/,
    /^invalid_option: .*`adapter`: expected a name, .*3/,
    /^invalid_option: .*`adapter`: expected each name once, found "a"/,
    /^invalid_option: .*`adapter\.a`: expected a finite number, found NaN/,
    /^invalid_option: .*`adapter`: .*found 7/,
    /^invalid_option: .*`weight`: expected a finite number/,
    /^invalid_option: .*`scale`: .*unknown option/,
    /^checkpoint: adapter_config\.json: /,
    /^invalid_option: .*`adapter\.files`: expected the files of a LoRA adapter, found "none"/,
    /^checkpoint: adapter_model\.safetensors: .*\[8, 160\].*\[8, 32\]/,
    /^invalid_option: .*`adapter`: expected a Hugging Face id, a URL, or \{ files \}/,
    /^invalid_option: .*`name`: .*"mine"/,
    /^invalid_option: .*`adapter`: expected one of those loaded \("mine"\), found "adapter"/,
  ];
  assert.equal(r.length, expected.length);
  for (const [i, pattern] of expected.entries()) assert.match(r[i], pattern);
});

test("a model comes with an adapter, by its address or as files", { skip }, async () => {
  const folder = path.join(LEARN, "lora/adapter");
  const files = readdirSync(folder).map((file) => [file, readFileSync(path.join(folder, file), "base64")]);
  const { prompt } = expectedLogits();
  const r = await run(
    async ([prompt, files]) => {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const blobs = files.map(([file, text]) => [`output/checkpoint-20/${file}`, new Blob([bytes(text)])]);
      const options = { max_new_tokens: 24, do_sample: false, eos_token_id: null };
      const found = [];
      for (const adapter of ["/learn/lora/adapter/", { files: Object.fromEntries(blobs) }]) {
        const generator = await gpt2.createGenerator("/learn/trained/", { dtype: "fp32", adapter });
        const { token_ids } = await generator.complete(prompt, options);
        const off = await generator.complete(prompt, { ...options, adapter: null });
        const [{ name, active_weight }] = await generator.listAdapters();
        const scores = [await generator.score("#$%"), await generator.score("#$%", { adapter: null })];
        const { device, fallback_reason } = generator.info;
        await generator.dispose();
        const nll = scores.map(({ nll }) => nll);
        found.push({ token_ids, off: off.token_ids, name, active_weight, device, fallback_reason, nll });
      }
      const kept = (await gpt2.listModels()).filter(({ name }) => name.includes("/lora/adapter"));
      await gpt2.deleteModel("/learn/lora/adapter/");
      return { found, kept };
    },
    [prompt, files],
  );
  const [url, chosen] = r.found;
  assert.deepEqual([url.name, chosen.name], ["adapter", "adapter"]);
  assert.deepEqual(chosen.token_ids, url.token_ids);
  assert.notDeepEqual(url.off, url.token_ids);
  for (const { device, fallback_reason, active_weight, nll } of r.found) {
    assert.deepEqual([device, active_weight], ["wasm", 1]);
    assert.match(fallback_reason, /software adapter/, "the GPU is refused for what it is");
    assert.notEqual(nll[0], nll[1]);
  }
  assert.equal(r.kept.length, 1);
  assert.ok(r.kept[0].complete);
});

test("the GPU has PEFT's numbers too, and switching off the bits of before", { skip, timeout: 300_000 }, async () => {
  const { prompt, logits } = expectedLogits();
  const names = ["adapter", "rslora", "pattern"];
  const found = await run(
    async ([prompt, names]) => {
      const onCpu = window.tiny;
      window.tiny = await gpt2.createGenerator("/learn/trained/", { device: "webgpu", dtype: "fp32" });
      const all = { base: await allLogprobs(prompt) };
      for (const name of names) await tiny.loadAdapter(`/learn/lora/${name}/`);
      for (const name of names) all[name] = await allLogprobs(prompt, name);
      all["adapter_scale_0.5"] = await allLogprobs(prompt, { adapter: 0.5 });
      all.off = await allLogprobs(prompt, null);
      const { device } = tiny.info;
      await tiny.dispose();
      window.tiny = onCpu;
      return { all, device };
    },
    [prompt, names],
  );
  assert.equal(found.device, "webgpu");
  for (const name of ["base", ...names, "adapter_scale_0.5"]) assertClose(name, found.all[name], logits[name]);
  assert.deepEqual(found.all.off, found.all.base);
});
