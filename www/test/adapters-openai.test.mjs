// The adapter for pages that come from OpenAI's client, in a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertOptions, openAdapters } from "./adapters-stage.mjs";

const run = await openAdapters();

/** What a body without sampling options means to the generator. */
const OPENAI_SAMPLING = { do_sample: true, temperature: 1, top_p: 1, top_k: 0 };

test("completions write what the generator writes", async () => {
  const r = await run(async (sampling) => {
    const client = new openai.OpenAI({ generator });
    const create = (body) => client.completions.create({ prompt: "The old king", ...body });
    const seeded = await create({ model: "demo", seed: 5 });
    const greedy = await create({ temperature: 0, max_tokens: 8 });
    const stopped = await create({ temperature: 0, max_tokens: 200, stop: "." });
    const several = await create({ prompt: ["The old king", "Once upon"], n: 2, best_of: 2, seed: 5, max_tokens: 6 });
    const ids = await generator.tokenizer.encode("The old king");
    const fromIds = await create({ prompt: ids, seed: 5 });
    const count = ids.length;
    const nothing = await create({ prompt: null, seed: 5 });
    const texts = {
      seeded: await generator.complete("The old king", { ...sampling, seed: 5, max_new_tokens: 16 }),
      greedy: await generator.complete("The old king", { do_sample: false, max_new_tokens: 8 }),
      stopped: await generator.complete("The old king", { do_sample: false, max_new_tokens: 200, stop: "." }),
      nothing: await generator.complete("<|endoftext|>", { ...sampling, seed: 5, max_new_tokens: 16 }),
    };
    const each = [];
    for (const prompt of ["The old king", "Once upon"]) {
      for (const seed of [5, 6]) {
        each.push((await generator.complete(prompt, { ...sampling, seed, max_new_tokens: 6 })).text);
      }
    }
    const now = Date.now() / 1000;
    return { seeded, greedy, stopped, several, fromIds, nothing, texts, each, count, now, version: gpt2.VERSION };
  }, OPENAI_SAMPLING);
  const { id, created, ...answer } = r.seeded;
  const { text, usage, finish_reason } = r.texts.seeded;
  assert.match(id, /^cmpl-/);
  assert.ok(Number.isInteger(created) && created <= r.now && created > r.now - 600);
  assert.deepEqual(answer, {
    object: "text_completion",
    model: "demo",
    system_fingerprint: `gpt2-web-${r.version}-wasm-q8`,
    choices: [{ index: 0, text, logprobs: null, finish_reason }],
    usage: { ...usage, total_tokens: usage.prompt_tokens + usage.completion_tokens },
  });
  assert.equal(r.greedy.choices[0].text, r.texts.greedy.text);
  assert.equal(r.stopped.choices[0].text, r.texts.stopped.text);
  assert.equal(r.stopped.choices[0].finish_reason, "stop");
  assert.equal(r.fromIds.choices[0].text, text);
  assert.equal(r.nothing.choices[0].text, r.texts.nothing.text);
  assert.deepEqual(
    r.several.choices.map(({ index, text }) => [index, text]),
    r.each.map((text, i) => [i, text]),
  );
  assert.equal(new Set(r.each).size, 4);
});

test("log-probabilities, of an echoed prompt too", async () => {
  const r = await run(async () => {
    const client = new openai.OpenAI({ generator });
    const body = { prompt: "The old king said: “No”", max_tokens: 12, seed: 3, logprobs: 2 };
    const plain = await client.completions.create(body);
    const echoed = await client.completions.create({ ...body, echo: true });
    const scored = await client.completions.create({ ...body, echo: true, max_tokens: 0 });
    const score = await generator.score(body.prompt);
    const sampling = { do_sample: true, temperature: 1, top_k: 0, top_p: 1 };
    const stream = generator.generate(body.prompt, { ...sampling, seed: 3, max_new_tokens: 12, top_logprobs: 2 });
    return { prompt: body.prompt, plain, echoed, scored, score, chunks: await collect(stream) };
  });
  const [{ text, logprobs }] = r.plain.choices;
  assert.deepEqual(
    logprobs.token_logprobs,
    r.chunks.map((chunk) => chunk.logprob),
  );
  for (const [i, top] of logprobs.top_logprobs.entries()) {
    assert.ok(Object.keys(top).length >= 2 && Object.keys(top).length <= 3);
    assert.equal(top[logprobs.tokens[i]], logprobs.token_logprobs[i]);
    for (const { text, logprob } of r.chunks[i].top_logprobs) assert.equal(top[text], logprob);
  }
  const all = r.prompt + text;
  const startsAt = (i) => all.slice(logprobs.text_offset[i]).startsWith(logprobs.tokens[i]);
  const whole = logprobs.tokens.map((_, i) => i).filter((i) => !logprobs.tokens[i].includes("\ufffd"));
  assert.ok(whole.length > 6 && whole.every(startsAt), "each token is where it says");

  const [echo] = r.echoed.choices;
  const nPrompt = r.score.tokens.length;
  assert.equal(echo.text, all);
  assert.equal(echo.logprobs.token_logprobs[0], null);
  assert.equal(echo.logprobs.top_logprobs[0], null);
  assert.deepEqual(
    echo.logprobs.token_logprobs.slice(0, nPrompt),
    r.score.tokens.map((t) => t.logprob),
  );
  assert.deepEqual(echo.logprobs.tokens.slice(nPrompt), logprobs.tokens);
  assert.deepEqual(echo.logprobs.text_offset.slice(nPrompt), logprobs.text_offset);
  const [only] = r.scored.choices;
  assert.deepEqual([only.text, only.finish_reason, only.logprobs.tokens.length], [r.prompt, "length", nPrompt]);
  assert.equal(r.scored.usage.completion_tokens, 0);
});

test("a stream's pieces are the whole, and it can be ended", async () => {
  const r = await run(async () => {
    const client = new openai.OpenAI({ model: "demo", device: "wasm" });
    const body = { prompt: "The old king", n: 2, seed: 5, max_tokens: 10, logprobs: 1, echo: true };
    const whole = await client.completions.create(body);
    const usage = { include_usage: true };
    const chunks = await collect(await client.completions.create({ ...body, stream: true, stream_options: usage }));

    const long = { prompt: "The old king", stream: true, max_tokens: 200, temperature: 0 };
    const quiet = await client.completions.create(long);
    let n = 0;
    for await (const _ of quiet) if (++n === 3) quiet.controller.abort();
    const left = await client.completions.create(long);
    for await (const _ of left) break;
    const twice = await collect(left).catch((error) => error.message);
    const controller = new AbortController();
    const cancelled = await client.completions.create(long, { signal: controller.signal });
    const loud = await (async () => {
      for await (const _ of cancelled) controller.abort();
    })().catch((error) => error.name);
    const before = await client.completions
      .create({ prompt: "x" }, { signal: AbortSignal.abort() })
      .catch((error) => error.name);
    const after = await client.completions.create({ prompt: "The old king", temperature: 0, max_tokens: 4 });
    await client.dispose();
    const gone = await client.completions.create({ prompt: "x" }).catch((error) => error.code);
    return { whole, chunks, n, twice, loud, before, after, gone };
  });
  const last = r.chunks.at(-1);
  assert.deepEqual([last.choices, last.usage], [[], r.whole.usage]);
  for (const { index, text, finish_reason, logprobs } of r.whole.choices) {
    const own = r.chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
    assert.ok(own.length > 6);
    assert.equal(own.map((choice) => choice.text).join(""), text);
    assert.deepEqual(
      own.flatMap((choice) => choice.logprobs?.tokens ?? []),
      logprobs.tokens,
    );
    assert.equal(own.at(-1).finish_reason, finish_reason);
    assert.ok(own.slice(0, -1).every((choice) => choice.finish_reason === null));
  }
  assert.equal(new Set(r.chunks.map(({ id }) => id)).size, 1);
  assert.ok(r.n >= 3 && r.n < 100);
  assert.match(r.twice, /once/);
  assert.deepEqual([r.loud, r.before, r.gone], ["AbortError", "AbortError", "disposed"]);
  assert.notEqual(r.after.choices[0].text, "");
});

test("what cannot be done is named", async () => {
  const errors = await run(async (_, plain) => {
    const client = new openai.OpenAI({ generator });
    const bodies = [
      { model: "gpt-3.5-turbo-instruct" },
      { suffix: "end" },
      { user: "me" },
      { best_of: 3 },
      { n: 0 },
      { max_tokens: 0 },
      { logprobs: 1.5 },
      { logprobs: 6, echo: true },
      { prompt: [5], logprobs: 1, echo: true },
      { prompt: [] },
      { prompt: [{}] },
      { stream_options: { include_usage: true } },
      { stream: true, stream_options: { include_obfuscation: true } },
      { temperature: -1 },
      { presence_penalty: 3 },
      { seed: 1.5 },
      { messages: [] },
    ];
    const calls = bodies.map((body) => () => client.completions.create({ prompt: "x", ...body }));
    calls.push(() => client.completions.create({ prompt: "x" }, { timeout: 5 }));
    calls.push(() => new openai.OpenAI({ apiKey: "x" }).completions.create({ prompt: "x" }));
    calls.push(() => new openai.OpenAI({ generator: {} }));
    return failures(calls, plain);
  });
  assertOptions(errors, [
    "model",
    "suffix",
    "user",
    "best_of",
    "n",
    "max_tokens",
    "logprobs",
    "logprobs",
    "echo",
    "prompt",
    "prompt",
    "stream_options",
    "include_obfuscation",
    "temperature",
    "presence_penalty",
    "seed",
    "messages",
    "timeout",
    "apiKey",
    "generator",
  ]);
});
