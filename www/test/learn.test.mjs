// Learning through the package: the demo model learns a text in a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { WWW } from "./site.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { runInTab } from "./tab.mjs";
import { until } from "./until.mjs";

const stage = await openStageWithFreshTab(async () => {
  /** How many workers were ended. */
  window.nEnded = 0;
  /** The worker that learns is cut off when it tells of this step, as if the tab were closed then. */
  window.lastStep = Infinity;
  window.Worker = class extends Worker {
    constructor(...how) {
      super(...how);
      this.addEventListener("message", (event) => {
        if (event.data.kind === "step" && event.data.report.step > lastStep) event.stopImmediatePropagation();
      });
    }
    terminate() {
      window.nEnded += 1;
      super.terminate();
    }
  };
  window.learn = await import("/package/dist/learn.js");
  window.started = gpt2.createGenerator("demo", { device: "wasm", threads: 1 }).then((generator) => {
    window.generator = generator;
  });
});
const { served } = stage;
const run = async (body, argument) => {
  await stage.page.evaluate(() => window.started);
  return runInTab(stage.page, body, argument);
};

/** A way of writing that the demo model has not: some 1,400 tokens of a ship's log. */
const LOG = Array.from({ length: 60 }, (_, i) => {
  const [wind, sea, seen] = [
    ["north", "south", "west"],
    ["calm", "rough"],
    ["a whale", "two gulls", "no sail", "ice"],
  ];
  return `Day ${i + 1}. Wind ${wind[i % 3]}, sea ${sea[(i * 7) % 2]}. We saw ${seen[(i * 5) % 4]}. All hands well.\n`;
}).join("");

const MODULES = ["c_attn", "c_proj", "c_fc"];
const SETTINGS = { max_length: 64, batch_size: 2, epochs: 4, learning_rate: 5e-3, r: 4, target_modules: MODULES };

test("a text is learnt: the loss falls, held-out text too, and the adapter writes so at once", {
  timeout: 300_000,
}, async () => {
  await run(() => generator);
  served.requests.length = 0;
  const r = await run(
    async ([LOG, SETTINGS]) => {
      const greedy = { max_new_tokens: 24, do_sample: false, eos_token_id: null };
      const before = await generator.complete("Day 7.", greedy);
      const estimate = await learn.estimateFinetune(generator, LOG, SETTINGS);
      const run = learn.finetune(generator, LOG, { ...SETTINGS, name: "log" });
      const start = await run.started;
      const events = [];
      let [meanwhile, sample] = [];
      for await (const event of run) {
        events.push(event);
        if (event.step === 2) meanwhile = generator.complete("Day 7.", greedy);
        if (event.step === 20) sample = run.sample("Day 7.", greedy);
      }
      const adapter = await run.adapter;
      const off = await generator.complete("Day 7.", greedy);
      const on = await generator.complete("Day 7.", { ...greedy, adapter: adapter.name });
      const files = await adapter.save();
      const texts = await Promise.all(Object.values(files).map((blob) => blob.slice(0, 4000).text()));
      const { nll: held } = await generator.score(LOG.slice(-400), { adapter: adapter.name });
      const { nll: heldBefore } = await generator.score(LOG.slice(-400));
      // what is saved is loaded again
      const again = await generator.loadAdapter({ files }, { name: "again" });
      const loaded = await generator.complete("Day 7.", { ...greedy, adapter: "again" });
      // a checkpoint with the adapter in it
      const merged = await adapter.merge();
      const other = await gpt2.createGenerator({ files: merged }, { device: "wasm", dtype: "fp32", threads: 1 });
      const { nll: mergedNll } = await other.score(LOG.slice(-400));
      await other.dispose();
      return {
        texts: [before, await meanwhile, off, on, loaded].map(({ text }) => text),
        sample: await sample,
        estimate,
        start,
        events,
        adapter: { name: adapter.name, step: adapter.step, eval_loss: adapter.eval_loss },
        files: [Object.keys(files), texts[0]],
        merged: Object.keys(merged).sort(),
        again,
        nll: [held, heldBefore, mergedNll],
        left: await generator.listAdapters(),
        kept: await learn.listFinetunes(),
        warnings: run.warnings,
      };
    },
    [LOG, SETTINGS],
  );
  const [before, meanwhile, off, on, loaded] = r.texts;
  assert.equal(meanwhile, before);
  assert.equal(off, before);
  assert.equal(loaded, on);
  assert.match(on, /Wind (north|south|west), sea/);
  assert.doesNotMatch(before, /Wind/);
  assert.ok(r.sample.text.length > 0 && r.sample.recipe.adapter !== null);

  const { events, start } = r;
  assert.deepEqual(
    events.map(({ step }) => step),
    events.map((_, i) => i + 1),
  );
  const last = events.at(-1);
  assert.equal(r.estimate.steps, start.steps);
  assert.equal(r.estimate.memory_bytes, start.memory_bytes);
  assert.ok(r.estimate.tokens > 1000 && r.estimate.memory_bytes > 4 * 1_933_760);
  assert.deepEqual(r.estimate.problems, []);
  assert.ok(last.loss < 0.5 * events[0].loss, `${events[0].loss} → ${last.loss}`);
  const measured = events.filter(({ eval_loss }) => eval_loss !== null);
  assert.ok(measured.length >= 4 && start.eval_loss > 2);
  const best = measured.reduce((a, b) => (b.eval_loss < a.eval_loss ? b : a));
  assert.ok(best.eval_loss < 0.5 * start.eval_loss, `${start.eval_loss} → ${best.eval_loss}`);
  assert.deepEqual(r.adapter, { name: "log", step: best.step, eval_loss: best.eval_loss });
  assert.ok(best.is_best);
  for (const event of events) assert.ok(event.tokens_per_second > 0 && event.eta_ms >= 0 && event.learning_rate > 0);
  assert.equal(last.eta_ms, 0);

  assert.deepEqual(r.files[0].sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  const config = JSON.parse(r.files[1]);
  assert.deepEqual([config.peft_type, config.r, config.target_modules], ["LORA", 4, MODULES]);
  assert.equal(r.again.parameters, 4 * 4 * (160 + 480 + (160 + 160) + 2 * (160 + 640)));
  assert.deepEqual(r.merged, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
  const [held, heldBefore, mergedNll] = r.nll;
  assert.ok(held < 0.6 * heldBefore);
  assert.ok(Math.abs(mergedNll - held) < 0.02, `${mergedNll} merged, ${held} beside the packed weights`);
  assert.deepEqual(
    r.left.map(({ name }) => name),
    ["log", "again"],
  );
  assert.deepEqual([r.kept, r.warnings], [[], []]);
  // the weights came from the generator
  assert.equal(served.requests.filter((url) => url.includes("model.safetensors")).length, 0);
});

test("its losses are those of the same run outside of browsers, which is held against PEFT's", {
  timeout: 300_000,
}, async () => {
  const recorded = JSON.parse(readFileSync(path.join(WWW, "../tests/golden/lora/run.json"), "utf8"));
  const r = await run(async ({ text, settings }) => {
    const exact = await gpt2.createGenerator("demo", { device: "wasm", dtype: "fp32", threads: 1 });
    const run = learn.finetune(exact, text, settings);
    const events = [];
    for await (const event of run) events.push(event);
    await exact.dispose();
    return { ids: await generator.tokenizer.encode(text), events };
  }, recorded);
  assert.deepEqual(r.ids, recorded.ids);
  assert.equal(r.events.length, recorded.losses.length);
  for (const [i, { loss }] of r.events.entries()) {
    assert.ok(Math.abs(loss - recorded.losses[i]) < 1e-4, `step ${i + 1}: ${loss}, recorded ${recorded.losses[i]}`);
  }
  assert.ok(Math.abs(r.events.at(-1).eval_loss - recorded.eval_loss) < 1e-4);
});

test("whoever does not learn fetches nothing of it, and whoever does, two files", async () => {
  const learnt = () =>
    served.requests.filter((url) => /gpt2_learn|learn-worker/.test(url)).map((url) => url.split("/").at(-1));
  served.requests.length = 0;
  await run(() => generator.complete("Day 1.", { max_new_tokens: 2 }));
  assert.deepEqual(learnt(), []);
  await run((LOG) => learn.estimateFinetune(generator, LOG), LOG);
  assert.deepEqual(learnt().sort(), ["gpt2_learn_bg.wasm", "learn-worker.js"]);
});

test("stop keeps what there is, at once; leaving the loop does too; abort keeps nothing", {
  timeout: 120_000,
}, async () => {
  const r = await run(
    async ([LOG, SETTINGS]) => {
      const many = { ...SETTINGS, steps: 100_000 };
      const run = learn.finetune(generator, LOG, many);
      let n = 0;
      let nEndedNow;
      for await (const { step } of run) {
        n = step;
        if (step !== 3) continue;
        const nEndedBefore = window.nEnded;
        run.stop();
        nEndedNow = window.nEnded - nEndedBefore;
      }
      const adapter = await run.adapter;
      const left = learn.finetune(generator, LOG, many);
      for await (const { step } of left) if (step === 2) break;
      const other = await left.adapter;
      const controller = new AbortController();
      const aborted = learn.finetune(generator, LOG, { ...many, signal: controller.signal });
      const errors = [];
      try {
        for await (const { step } of aborted) if (step === 2) controller.abort();
      } catch (error) {
        errors.push(error.name);
      }
      errors.push(await aborted.adapter.catch(({ name }) => name));
      const early = learn.finetune(generator, LOG, many);
      early.stop();
      errors.push(await early.adapter.catch(({ code }) => code), await early.started.catch(({ code }) => code));
      return {
        n,
        nEndedNow,
        adapters: [adapter, other].map(({ name, step }) => [name, step]),
        errors,
        names: (await generator.listAdapters()).map(({ name }) => name),
        kept: await learn.listFinetunes(),
      };
    },
    [LOG, SETTINGS],
  );
  assert.ok(r.n >= 3);
  assert.equal(r.nEndedNow, 1, "the step under way is not waited for");
  assert.deepEqual(
    r.adapters.map(([name]) => name),
    ["learned", "learned-2"],
  );
  assert.ok(r.adapters[0][1] >= 1 && r.adapters[1][1] >= 1);
  assert.deepEqual(r.errors, ["AbortError", "AbortError", "nothing_learnt", "nothing_learnt"]);
  assert.deepEqual([r.names, r.kept], [["learned", "learned-2"], []]);
});

test("after a reload it goes on, and every step is what it would have been", { timeout: 300_000 }, async () => {
  const settings = { ...SETTINGS, steps: 24, seed: 3 };
  const whole = await run(
    async ([LOG, settings]) => {
      const run = learn.finetune(generator, LOG, settings);
      const losses = [];
      for await (const { loss, eval_loss } of run) losses.push([loss, eval_loss]);
      const { eval_loss: start } = await run.started;
      return { losses, start, step: (await run.adapter).step };
    },
    [LOG, settings],
  );
  assert.equal(whole.losses.length, 24);
  await run(
    ([LOG, settings]) => {
      window.lastStep = 9;
      window.cutOff = learn.finetune(generator, LOG, { ...settings, name: "log" });
    },
    [LOG, settings],
  );
  await until("nine steps are kept", async () => {
    const [saved] = await run(() => learn.listFinetunes());
    return saved?.step === 9;
  });
  await stage.visitAgain();
  const r = await run(async () => {
    const [saved, ...others] = await learn.listFinetunes();
    const run = await learn.resumeFinetune(generator, saved.id);
    const events = [];
    for await (const event of run) events.push(event);
    const start = await run.started;
    const { name, step } = await run.adapter;
    return { saved, others, events, start, name, step, left: await learn.listFinetunes() };
  });
  const { model, dtype, steps, step, name } = r.saved;
  assert.deepEqual([model, dtype, steps, name, r.others], ["demo", "q8", 24, "log", []]);
  assert.equal(step, 9);
  assert.deepEqual(
    r.events.map(({ step }) => step),
    Array.from({ length: 24 - step }, (_, i) => step + 1 + i),
  );
  assert.deepEqual(
    r.events.map(({ loss, eval_loss }) => [loss, eval_loss]),
    whole.losses.slice(step),
  );
  assert.deepEqual([r.start.eval_loss, r.start.steps], [whole.start, 24]);
  assert.deepEqual([r.name, r.step, r.left], ["log", whole.step, []]);
});

test("all of the model learns: a checkpoint comes of it, packed or not, and a run goes on after a reload", {
  timeout: 300_000,
}, async () => {
  const settings = { method: "full", max_length: 64, batch_size: 2, steps: 24, learning_rate: 2e-3 };
  const whole = await run(
    async ([LOG, settings]) => {
      const greedy = { max_new_tokens: 16, do_sample: false, eos_token_id: null };
      const estimate = await learn.estimateFinetune(generator, LOG, settings);
      const run = learn.finetune(generator, LOG, settings);
      const events = [];
      let sample;
      for await (const event of run) {
        events.push(event);
        if (event.step === 12) sample = run.sample("Day 7.", greedy);
      }
      const model = await run.model;
      const made = {};
      for (const dtype of ["fp32", "q8", "q4"]) {
        const files = await model.merge({ dtype });
        const options = { device: "wasm", threads: 1, cache: false, dtype };
        const other = await gpt2.createGenerator({ files }, options);
        const { text } = await other.complete("Day 7.", greedy);
        const { nll } = await other.score(LOG.slice(-400));
        made[dtype] = { text, nll, names: Object.keys(files).sort(), dtype: other.info.dtype };
        await other.dispose();
      }
      return {
        estimate,
        events,
        sample: (await sample).text,
        made,
        step: model.step,
        noAdapter: await run.adapter.catch((e) => `${e.code}: ${e.message}`),
        strange: await model.merge({ dtype: "q5" }).catch((e) => `${e.code}: ${e.message}`),
        untouched: (await generator.score(LOG.slice(-400))).nll,
        adapters: await generator.listAdapters(),
        left: await learn.listFinetunes(),
      };
    },
    [LOG, settings],
  );
  assert.ok(whole.estimate.memory_bytes > 7 * 4 * 1_933_760);
  const { events, made } = whole;
  assert.ok(events.at(-1).loss < 0.6 * events[0].loss, `${events[0].loss} → ${events.at(-1).loss}`);
  for (const { grad_norm } of events) assert.ok(grad_norm > 0);
  assert.equal(typeof whole.sample, "string");
  assert.deepEqual(made.fp32.names, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
  assert.ok(
    made.q8.names.includes("gpt2-web.json") && made.q8.names.some((name) => /^model\.q8\..*packed$/.test(name)),
  );
  for (const dtype of ["fp32", "q8", "q4"]) {
    assert.match(made[dtype].text, /Wind|sea/);
    assert.equal(made[dtype].dtype, dtype);
    assert.ok(made[dtype].nll < 0.6 * whole.untouched, `${dtype}: ${made[dtype].nll} of ${whole.untouched}`);
  }
  assert.ok(Math.abs(made.q8.nll - made.fp32.nll) < 0.05, `${made.q8.nll} packed, ${made.fp32.nll} not`);
  assert.match(whole.noAdapter, /^invalid_state: .*run\.model/);
  assert.match(whole.strange, /^invalid_option: option `dtype`: /);
  assert.deepEqual([whole.adapters, whole.left], [[], []]);

  await run(
    ([LOG, settings]) => {
      window.lastStep = 7;
      window.cutOff = learn.finetune(generator, LOG, settings);
    },
    [LOG, settings],
  );
  await until("a state is kept", async () => (await run(() => learn.listFinetunes()))[0]?.step > 0);
  await stage.visitAgain();
  const r = await run(async () => {
    const [saved] = await learn.listFinetunes();
    const run = await learn.resumeFinetune(generator, saved.id);
    const losses = [];
    for await (const { step, loss, eval_loss } of run) losses.push([step, loss, eval_loss]);
    return { step: saved.step, losses, best: (await run.model).step, none: await run.adapter.catch((e) => e.code) };
  });
  assert.deepEqual(
    r.losses,
    whole.events.slice(r.step).map(({ step, loss, eval_loss }) => [step, loss, eval_loss]),
  );
  assert.deepEqual([r.best, r.none], [whole.step, "invalid_state"]);
});

test("what cannot be learnt is an error that names it", { timeout: 120_000 }, async () => {
  const errors = await run(async (LOG) => {
    const told = (e) => `${e.code}: ${e.message}`;
    const thrown = (options, text = LOG) => {
      try {
        learn.finetune(generator, text, options);
        return "nothing";
      } catch (error) {
        return told(error);
      }
    };
    const failed = async (text, options) => {
      const run = learn.finetune(generator, text, options);
      try {
        for await (const _ of run);
      } catch (error) {
        return [told(error), await run.adapter.catch(told), await run.sample("x").catch(told)];
      }
    };
    return {
      thrown: [
        thrown({ rank: 8 }),
        thrown({ r: 257 }),
        thrown({ learning_rate: 0 }),
        thrown({ eval_fraction: 1 }),
        thrown({ target_modules: [] }),
        thrown({ device: "webgpu" }),
        thrown({ method: "some" }),
        thrown({ method: "full", r: 4 }),
        thrown({ signal: 1 }),
        thrown({}, 7),
        thrown({}, []),
      ],
      empty: await failed("", {}),
      modules: await failed(LOG, { target_modules: ["q_proj"] }),
      diverged: await failed(LOG, { learning_rate: 1e30, warmup_steps: 0, steps: 5 }),
      unknown: await learn.resumeFinetune(generator, "nobody").catch(told),
      deleted: await learn.deleteFinetune("nobody"),
      estimate: await learn.estimateFinetune(generator, LOG, { batch_size: 0 }).catch(told),
      left: await learn.listFinetunes(),
      works: (await generator.complete("Day 1.", { max_new_tokens: 3, do_sample: false })).token_ids.length,
    };
  }, LOG);
  const expected = [
    /^invalid_option: option `rank`: .*unknown option/,
    /^invalid_option: option `r`: expected a whole number from 1 to 256, found 257/,
    /^invalid_option: option `learning_rate`: /,
    /^invalid_option: option `eval_fraction`: /,
    /^invalid_option: option `target_modules`: /,
    /^invalid_option: option `device`: expected "auto" or "wasm", since learning runs on the CPU/,
    /^invalid_option: option `method`: /,
    /^invalid_option: option `r`: expected nothing with method: "full"/,
    /^invalid_option: option `signal`: /,
    /^invalid_option: option `text`: expected a text, or a list of texts, found 7/,
    /^invalid_option: option `text`: /,
  ];
  for (const [i, pattern] of expected.entries()) assert.match(errors.thrown[i], pattern);
  for (const [found, pattern] of [
    [errors.empty, /^invalid_option: option `text`: expected at least two tokens/],
    [errors.modules, /^invalid_option: option `target_modules`: .*found q_proj/],
    [errors.diverged.slice(0, 2), /^diverged: step \d: the loss is/],
  ]) {
    for (const message of found) assert.match(message, pattern);
  }
  assert.match(errors.unknown, /^invalid_option: option `id`: /);
  assert.match(errors.estimate, /^invalid_option: option `batch_size`: /);
  assert.deepEqual([errors.deleted, errors.left, errors.works], [false, [], 3]);
});
