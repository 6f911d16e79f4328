// The adapter for pages that come from the Prompt API, in a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openAdapters } from "./adapters-stage.mjs";

const run = await openAdapters();

/** What the default template makes of one user's words. */
const SCRIPT = "User: Who are you?\nAssistant:";

test("a model answers with what the generator writes after the template", async () => {
  const r = await run(async (SCRIPT) => {
    const { LanguageModel } = promptApi;
    const generate = { max_new_tokens: 24, seed: 11 };
    const initialPrompts = [
      { role: "system", content: "A tale." },
      {
        role: "user",
        content: [
          { type: "text", value: "Speak" },
          { type: "text", value: "!" },
        ],
      },
      { role: "assistant", content: "I speak." },
    ];
    const model = await LanguageModel.create({
      initialPrompts,
      samplingMode: "creative",
      gpt2: { generator, generate },
    });
    const initial = model.contextUsage;
    const measured = await model.measureContextUsage("Who are you?");
    const answer = await model.prompt("Who are you?");
    const usage = model.contextUsage;
    const [copy, { contextUsage }] = await model
      .clone()
      .then((copy) => [copy, { ...copy, contextUsage: copy.contextUsage }]);
    const deltas = await read(copy.promptStreaming("Why?"));
    const second = await model.prompt("Why?");
    const prefixed = await copy.prompt([
      { role: "user", content: "And?" },
      { role: "assistant", content: "Once upon", prefix: true },
    ]);
    const { samplingMode, topK, temperature, contextWindow } = model;

    const options = {
      ...generate,
      do_sample: true,
      temperature: 1,
      top_k: 100,
      top_p: 1,
      stop: ["\nUser:", "\nAssistant:"],
    };
    const told = "A tale.\n\nUser: Speak!\nAssistant: I speak.\n";
    // As tokens, since a text that was sampled need not have the tokens that it would be encoded as.
    const ids = await generator.tokenizer.encode(told);
    const go = async (text) => {
      ids.push(...(await generator.tokenizer.encode(text)));
      const result = await generator.complete(ids, options);
      ids.push(...result.token_ids, ...(await generator.tokenizer.encode("\n")));
      return result;
    };
    const first = await go(SCRIPT);
    const next = await go("User: Why?\nAssistant:");
    const last = await go("User: And?\nAssistant: Once upon");
    const counts = await Promise.all([told, SCRIPT].map((text) => generator.tokenizer.count(text)));
    model.destroy();
    copy.destroy();
    const alive = await generator.complete("x", { max_new_tokens: 1 }).then(() => true);
    const asked = { answer, second, deltas, prefixed };
    const is = { samplingMode, topK, temperature, contextWindow };
    return { asked, is, initial, measured, usage, contextUsage, first, next, last, counts, alive };
  }, SCRIPT);
  assert.deepEqual(r.is, { samplingMode: "creative", topK: 100, temperature: 1, contextWindow: 256 });
  assert.deepEqual([r.initial, r.measured], r.counts);
  for (const { finish_reason } of [r.first, r.next]) assert.equal(finish_reason, "length");
  assert.equal(r.asked.answer, r.first.text.trimStart());
  assert.ok(r.asked.answer.length > 20);
  assert.ok(r.usage > r.initial + r.measured);
  assert.equal(r.contextUsage, r.usage);
  assert.equal(r.asked.second, r.next.text.trimStart());
  assert.equal(r.asked.deltas.join(""), r.asked.second, "a clone goes on from the same text");
  assert.ok(r.asked.deltas.length > 3);
  assert.equal(r.asked.prefixed, r.last.text);
  assert.ok(r.alive, "a generator that was passed in is not disposed of");
});

test("an answer ends where somebody else would speak, and the template can be another", async () => {
  const r = await run(async () => {
    const template = {
      message: (role, text) => `${role === "user" ? "Q" : "A"}. ${text}\n`,
      answer: "The old king",
      answer_end: "\n",
      stop: [","],
    };
    const generate = { max_new_tokens: 200 };
    const gpt2 = { generator, template, generate };
    const model = await promptApi.LanguageModel.create({ samplingMode: "most-predictable", gpt2 });
    const answer = await model.prompt("Who?");
    const usage = model.contextUsage;
    model.destroy();
    const prompt = "Q. Who?\nThe old king";
    const { text, finish_reason } = await generator.complete(prompt, { do_sample: false, stop: ",", ...generate });
    const [a, b, c] = await Promise.all([prompt, text, "\n"].map((part) => generator.tokenizer.count(part)));
    return { answer, usage, text, finish_reason, count: [a + b + c, await generator.tokenizer.count(`${text}\n`)], a };
  });
  assert.equal(r.finish_reason, "stop");
  assert.equal(r.answer, r.text.trimStart());
  assert.equal(r.usage, r.a + r.count[1], "what ended the answer is not kept");
});

test("loading, availability and monitors; models of one source share a generator", async () => {
  const r = await run(async () => {
    const { LanguageModel } = promptApi;
    const own = { model: "/models/whole", load: { device: "wasm" } };
    LanguageModel.defaults = own;
    const before = await LanguageModel.availability();
    const [loaded, later] = [[], []];
    const creating = LanguageModel.create({
      monitor: (monitor) => monitor.addEventListener("downloadprogress", (e) => loaded.push([e.loaded, e.total])),
    });
    const during = await LanguageModel.availability();
    const controller = new AbortController();
    const impatient = LanguageModel.create({ signal: controller.signal }).catch((reason) => reason);
    controller.abort("enough");
    const one = await creating;
    const two = await LanguageModel.create({
      monitor(monitor) {
        monitor.ondownloadprogress = (e) => later.push(e.loaded);
      },
    });
    const after = await LanguageModel.availability();
    one.destroy();
    const answer = await two.prompt("x");
    two.destroy();
    const kept = await LanguageModel.availability();
    const none = await LanguageModel.availability({ expectedInputs: [{ type: "audio" }] });
    const params = await LanguageModel.params();
    LanguageModel.defaults = {};
    return { before, loaded, during, impatient: await impatient, later, after, answer, kept, none, params };
  });
  assert.deepEqual([r.before, r.during, r.after], ["downloadable", "downloading", "available"]);
  assert.deepEqual([r.kept, r.none], ["available", "unavailable"]);
  assert.equal(r.impatient, "enough");
  assert.deepEqual(
    [r.loaded[0], r.loaded.at(-1)],
    [
      [0, 1],
      [1, 1],
    ],
  );
  assert.deepEqual(r.later, [0, 1]);
  assert.equal(typeof r.answer, "string", "the other one goes on"); // drawn at random, it may end at once
  assert.ok(r.params.defaultTopK <= r.params.maxTopK && r.params.defaultTemperature <= r.params.maxTemperature);
});

test("a full context window forgets the oldest turns", async () => {
  const r = await run(async (_, plain) => {
    const initialPrompts = [{ role: "system", content: "A tale." }];
    const gpt2 = { generator, generate: { max_new_tokens: 30, eos_token_id: null } };
    const model = await promptApi.LanguageModel.create({ initialPrompts, samplingMode: "most-predictable", gpt2 });
    const heard = [];
    model.oncontextoverflow = function (event) {
      heard.push(["handler", event.type, this === model]);
    };
    model.addEventListener("contextoverflow", () => heard.push(["listener"]));
    await model.append([{ role: "user", content: "the sea ".repeat(40) }]);
    const before = heard.length;
    let n = 0;
    while (heard.length === 0 && n++ < 20) await model.prompt("And then?");
    const usage = model.contextUsage;
    const answer = await model.prompt("Who?");
    const tooLong = await model.prompt("the sea ".repeat(300)).catch(plain);
    const same = model.contextUsage;
    const asked = await model.prompt("Who?");
    const never = await promptApi.LanguageModel.create({
      initialPrompts: [{ role: "user", content: "the sea ".repeat(300) }],
      gpt2,
    }).catch(plain);
    model.oncontextoverflow = null;
    const [first] = await Promise.all([generator.tokenizer.count("A tale.\n\n")]);
    model.destroy();
    return { before, n, heard, usage, answer, tooLong, same, asked, never, first };
  });
  assert.equal(r.before, 0);
  assert.ok(r.n > 1);
  assert.deepEqual(r.heard.slice(0, 2), [["handler", "contextoverflow", true], ["listener"]]);
  assert.ok(r.usage > r.first && r.usage <= 256);
  assert.ok(r.answer.length > 0 && r.asked.length > 0);
  assert.deepEqual([r.tooLong.name, r.never.name], ["QuotaExceededError", "QuotaExceededError"]);
  assert.match(r.tooLong.message, /256/);
});

test("aborts take an answer back, requests wait their turn, and destroy ends all", async () => {
  const r = await run(async (_, plain) => {
    const gpt2 = { generator, generate: { max_new_tokens: 100, eos_token_id: null } };
    const model = await promptApi.LanguageModel.create({ samplingMode: "most-predictable", gpt2 });
    await model.append("A tale.");
    const before = model.contextUsage;
    const controller = new AbortController();
    const reader = model.promptStreaming("Why?", { signal: controller.signal }).getReader();
    const first = await reader.read();
    const waiting = new AbortController();
    const queued = model.prompt("Never asked", { signal: waiting.signal }).catch((reason) => reason);
    waiting.abort("no more");
    const gaveUp = await queued;
    controller.abort();
    const aborted = await (async () => {
      for (let next = first; !next.done; ) next = await reader.read();
    })().catch(plain);
    await model.append([]);
    const after = model.contextUsage - (await generator.tokenizer.count("User: \n"));

    const cancelled = model.promptStreaming("Why?").getReader();
    await cancelled.read();
    await cancelled.cancel();
    const [one, two] = await Promise.all([model.clone(), model.measureContextUsage("x")]);
    const both = await Promise.all([one.prompt("One?"), one.prompt("Two?")]);
    const other = await model.clone();
    const inOrder = [await other.prompt("One?"), await other.prompt("Two?")];

    const controlled = new AbortController();
    const bound = await promptApi.LanguageModel.create({ signal: controlled.signal, gpt2 });
    const running = bound.prompt("Why?").catch(plain);
    controlled.abort();
    const gone = [await running, await bound.prompt("x").catch(plain), await bound.clone().catch(plain)];
    for (const each of [model, one, other]) each.destroy();
    return { before, after, gaveUp, aborted, two, both, inOrder, gone, first: first.value };
  });
  assert.ok(r.first.length > 0);
  assert.equal(r.gaveUp, "no more");
  assert.equal(r.aborted.name, "AbortError");
  assert.equal(r.after, r.before);
  assert.deepEqual(r.both, r.inOrder);
  assert.deepEqual(
    r.gone.map(({ name }) => name),
    ["AbortError", "AbortError", "AbortError"],
  );
});

test("errors are the specification's", async () => {
  const errors = await run(async (_, plain) => {
    const { LanguageModel } = promptApi;
    const create = (options) => LanguageModel.create({ gpt2: { generator }, ...options });
    const model = await create({});
    await model.append("x");
    const image = [{ type: "image", value: new Blob() }];
    const found = await failures(
      [
        () => model.prompt("x", { responseConstraint: { type: "boolean" } }),
        () => read(model.promptStreaming("x", { responseConstraint: {} })),
        () => model.prompt("x", { omitResponseConstraintInput: true }),
        () => model.prompt([{ role: "user", content: image }]),
        () => model.prompt([{ role: "system", content: "late" }]),
        () => model.prompt([{ role: "judge", content: "x" }]),
        () => model.prompt([{ role: "user", content: "x", prefix: true }]),
        () => create({ tools: [{ name: "clock" }] }),
        () => create({ expectedOutputs: [{ type: "image" }] }),
        () => create({ expectedInputs: [{ type: "text", languages: ["no language"] }] }),
        () => create({ samplingMode: "wild" }),
        () => create({ samplingMode: "creative", topK: 3 }),
        () => create({ topK: 0 }),
        () => create({ temperature: -1 }),
        () => create({ signal: AbortSignal.abort() }),
        () => LanguageModel.create({ gpt2: { model: "/models/llama" } }),
      ],
      plain,
    );
    const clamped = await create({ topK: Infinity, temperature: 99 });
    const { maxTopK, maxTemperature } = await LanguageModel.params();
    const isClamped = clamped.topK === maxTopK && clamped.temperature === maxTemperature;
    return [...found.map(({ name }) => name), isClamped];
  });
  assert.deepEqual(errors, [
    "NotSupportedError",
    "NotSupportedError",
    "TypeError",
    "NotSupportedError",
    "TypeError",
    "TypeError",
    "SyntaxError",
    "NotSupportedError",
    "NotSupportedError",
    "RangeError",
    "TypeError",
    "TypeError",
    "RangeError",
    "RangeError",
    "AbortError",
    "UnsupportedModelError",
    true,
  ]);
});
