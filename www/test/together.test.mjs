// Many texts at once, several of one prompt, and look-up drafts, in the package as its users have it: whatever the
// company, a text is what it is alone, to the bit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";

const stage = await openStage();
const page = await openTab(await stage.browser.newContext(), stage.served.url);
const run = (body, argument) => runInTab(page, body, argument);

/** Texts of every kind, longer than any of them waits for its turn. */
const VERSE = "The cat sat on the mat. The dog sat on the log. ";
const KINDS = [
  ["The old king", { max_new_tokens: 40, do_sample: false }],
  [VERSE.repeat(3), { max_new_tokens: 40, do_sample: false, top_logprobs: 2 }],
  [VERSE.repeat(2), { max_new_tokens: 30, temperature: 0.4, seed: 5, logprobs: true }],
  ["Once upon a time there was", { max_new_tokens: 50, seed: 1, repetition_penalty: 1.2, stop: " the" }],
  ["Little Red Riding Hood ".repeat(12), { max_new_tokens: 30, seed: 9, top_p: 0.9, top_k: 0 }],
  ["The wolf", { max_new_tokens: 10, seed: 4, output_attentions: true }],
].map(([prompt, options]) => [prompt, { eos_token_id: null, prefix_reuse: false, ...options }]);

/** What the tests use in the page's scripts. Runs there. */
await run(async () => {
  /** A text as all that can be told of it: what was written, in which chunks, with which probabilities. */
  window.whole = async (generator, prompt, options, onChunk = () => {}) => {
    const stream = generator.generate(prompt, options);
    const chunks = [];
    for await (const { attentions, ...chunk } of stream) {
      chunks.push({ ...chunk, attentions: attentions?.map((weights) => [weights.length, weights[0], weights.at(-1)]) });
      onChunk(chunks.length, stream);
    }
    const { text, token_ids, finish_reason } = await stream.result;
    return { text, token_ids, finish_reason, chunks };
  };
  window.generator = await gpt2.createGenerator("demo", { device: "wasm" });
});

for (const dtype of ["fp32", "fp16", "q8", "q4"]) {
  test(`texts that are written at once are those that are written alone: ${dtype}`, async () => {
    const r = await run(
      async ({ dtype, KINDS }) => {
        const generator = await gpt2.createGenerator("demo", { device: "wasm", dtype, max_batch_size: 4 });
        const alone = [];
        for (const [prompt, options] of KINDS)
          alone.push(await whole(generator, prompt, { ...options, prompt_lookup_num_tokens: 0 }));
        const before = await generator.stats();
        const together = await Promise.all(KINDS.map(([prompt, options]) => whole(generator, prompt, options)));
        const after = await generator.stats();
        await generator.dispose();
        return { alone, together, before, after };
      },
      { dtype, KINDS },
    );
    for (const [i, text] of r.together.entries()) assert.deepEqual(text, r.alone[i], `text ${i}`);
    assert.equal(r.before.passes_by_batch_size.length, 1, "there was one text at a time");
    assert.equal(r.after.passes_by_batch_size.length, 4, "four share a pass, and two wait");
    assert.deepEqual([r.after.max_batch_size, r.after.batch_size, r.after.queue_length], [4, 0, 0]);
  });
}

test("one that is aborted, left, interrupted or fails does not touch the others", async () => {
  const r = await run(async (KINDS, plain) => {
    const [[prompt, options], second, third] = KINDS;
    const alone = [];
    for (const [prompt, options] of [second, third]) alone.push(await whole(generator, prompt, options));
    const long = { ...options, max_new_tokens: 200 };
    const outcome = (text) => text.catch((error) => plain(error).code ?? error.name);
    const controller = new AbortController();
    const everything = Array.from({ length: 4096 }, (_, id) => id);
    const [aborted, broken, soft, failed, unknown, ...others] = await Promise.all([
      outcome(whole(generator, prompt, { ...long, signal: controller.signal }, (n) => n === 3 && controller.abort())),
      (async () => {
        const stream = generator.generate(prompt, long);
        for await (const _ of stream) break;
        return outcome(stream.result);
      })(),
      whole(generator, prompt, long, (n, stream) => n === 4 && stream.interrupt()),
      outcome(whole(generator, prompt, { ...long, suppress_tokens: everything })),
      outcome(whole(generator, [99_999], long)),
      ...[second, third].map(([prompt, options]) => whole(generator, prompt, options)),
    ]);
    const { batch_size, queue_length } = await generator.stats();
    const again = await whole(generator, prompt, long);
    return { alone, others, aborted, broken, soft, failed, unknown, again, left: [batch_size, queue_length] };
  }, KINDS);
  assert.deepEqual(r.others, r.alone);
  assert.deepEqual([r.aborted, r.broken, r.unknown], ["AbortError", "AbortError", "invalid_option"]);
  assert.equal(r.soft.finish_reason, "interrupt");
  assert.ok(r.soft.token_ids.length >= 4 && r.again.text.startsWith(r.soft.text));
  assert.equal(r.failed, "invalid_logits", "no token is left that could be written");
  assert.deepEqual(r.left, [0, 0], "nobody is left behind");
});

test("several texts of one prompt: read once, with seeds of their own, each written again alone", async () => {
  const r = await run(async () => {
    const options = { max_new_tokens: 20, temperature: 0.9, seed: 7, eos_token_id: null, num_return_sequences: 5 };
    const told = [];
    const stream = generator.generate("The old king", { ...options, logprobs: true });
    for await (const chunk of stream) told.push(chunk);
    const result = await stream.result;
    const alone = [];
    for (const { recipe } of result.sequences)
      alone.push(await generator.replay(JSON.parse(JSON.stringify(recipe))).result);
    const replayed = await generator.replay(JSON.parse(JSON.stringify(result.recipe))).result;
    const one = await generator.complete("The old king", { ...options, num_return_sequences: 1 });
    const random = await generator.complete("The old king", {
      max_new_tokens: 2,
      temperature: 1,
      num_return_sequences: 2,
    });
    const soft = generator.generate("The old king", { ...options, max_new_tokens: 200 });
    let n = 0;
    for await (const _ of soft) if (++n === 12) soft.interrupt();
    const cut = await soft.result;
    const count = await generator.tokenizer.count("The old king");
    return { told, result, alone, replayed, one, random, cut, count };
  });
  const { sequences } = r.result;
  assert.deepEqual(
    sequences.map(({ index }) => index),
    [0, 1, 2, 3, 4],
  );
  for (const [i, sequence] of sequences.entries()) {
    const own = r.told.filter(({ index }) => index === i);
    assert.equal(own.map(({ text }) => text).join(""), sequence.text);
    assert.deepEqual(
      own.map(({ token_id }) => token_id),
      sequence.token_ids,
    );
    assert.equal(r.alone[i].text, sequence.text, `text ${i} alone`);
    assert.deepEqual([r.alone[i].token_ids, r.alone[i].recipe.seed], [sequence.token_ids, sequence.seed]);
  }
  assert.equal(new Set(sequences.map(({ seed }) => seed)).size, 5);
  assert.equal(new Set(sequences.map(({ text }) => text)).size, 5, "another seed, another text");
  assert.equal(sequences[0].seed, 7);
  assert.deepEqual([r.result.text, r.result.token_ids], [sequences[0].text, sequences[0].token_ids]);
  assert.equal(r.one.text, r.result.text, "the first is the one that there is without the others");
  assert.equal(r.one.sequences.length, 1);
  assert.deepEqual(r.result.usage, { prompt_tokens: r.count, completion_tokens: 100 });
  assert.equal(r.result.recipe.num_return_sequences, 5);
  assert.deepEqual(
    r.replayed.sequences.map(({ text }) => text),
    sequences.map(({ text }) => text),
  );
  assert.ok(r.random.sequences.every(({ seed }) => Number.isSafeInteger(seed)));
  assert.equal(r.random.recipe.seed, r.random.sequences[0].seed);
  assert.ok(r.cut.sequences.every(({ finish_reason }) => finish_reason === "interrupt"));
  assert.ok(r.cut.usage.completion_tokens >= 12 && r.cut.usage.completion_tokens < 1000);
});

test("drafts change no text, are fewer than they say, and are told", async () => {
  const r = await run(async () => {
    const generator = await gpt2.createGenerator("demo", { device: "wasm" });
    // with a handful of tokens to choose from, a text repeats itself
    const prompt = await generator.tokenizer.encode("The cat sat on the mat. ".repeat(3));
    const logit_bias = Object.fromEntries(prompt.map((id) => [id, 100]));
    const found = [];
    for (const sampling of [{ do_sample: false }, { seed: 3, temperature: 0.5, top_logprobs: 2 }]) {
      const options = { max_new_tokens: 80, eos_token_id: null, logit_bias, ...sampling };
      for (const prompt_lookup_num_tokens of [0, "auto", 2, null]) {
        const before = await generator.stats();
        const text = await whole(generator, prompt, { ...options, prompt_lookup_num_tokens });
        const after = await generator.stats();
        const nSteps = after.passes_by_batch_size[0] - (before.passes_by_batch_size[0] ?? 0);
        found.push({ text, nSteps, nDrafts: after.draft_tokens - before.draft_tokens });
      }
    }
    const stats = await generator.stats();
    await generator.dispose();
    return { found, stats };
  });
  for (const i of [0, 4]) {
    const [off, auto, two, none] = r.found.slice(i, i + 4);
    for (const { text } of [auto, two, none]) assert.deepEqual(text, off.text);
    assert.deepEqual([off.nDrafts, none.nDrafts], [0, 0]);
    assert.ok(auto.nDrafts > 0 && two.nDrafts > 0);
    assert.ok(auto.nSteps < off.nSteps && two.nSteps < off.nSteps, "what was guessed right needs no step of its own");
  }
  assert.ok(r.stats.draft_acceptance > 0.5 && r.stats.draft_acceptance <= 1);
});

test("stats tell how long tokens take, how full passes are, and what memory texts hold", async () => {
  const r = await run(async () => {
    const generator = await gpt2.createGenerator("demo", { device: "wasm", max_batch_size: 2 });
    const fresh = await generator.stats();
    const options = { max_new_tokens: 120, do_sample: false, eos_token_id: null, prompt_lookup_num_tokens: 0 };
    const streams = ["The old king", "Once upon a time", "The wolf"].map((prompt) =>
      generator.generate(prompt, options),
    );
    let during;
    for await (const _ of streams[0]) during ??= await generator.stats();
    await Promise.all(streams.map(({ result }) => result));
    const after = await generator.stats();
    const session = generator.session();
    await session.append("The old king");
    await session.generate("", { ...options, max_new_tokens: 4 }).result;
    const clone = session.clone();
    await clone.append([]);
    const open = await generator.stats();
    const sizes = [session.cache_bytes, clone.cache_bytes];
    await session.dispose();
    await clone.dispose();
    const closed = await generator.stats();
    await generator.dispose();
    return { fresh, during, after, open, closed, sizes };
  });
  assert.deepEqual([r.fresh.tokens, r.fresh.tokens_per_second, r.fresh.cache_bytes], [0, 0, 0]);
  assert.deepEqual([r.fresh.draft_acceptance, r.fresh.passes_by_batch_size, r.fresh.max_batch_size], [null, [], 2]);
  assert.deepEqual([r.during.batch_size, r.during.queue_length], [2, 1]);
  assert.ok(r.during.cache_bytes > 0 && r.after.cache_bytes > 0, "earlier texts are kept for their beginnings");
  assert.equal(r.after.tokens, 360);
  for (const { p50, p95, p99 } of [r.after.first_token_ms, r.after.token_ms])
    assert.ok(p50 > 0 && p50 <= p95 && p95 <= p99, `${p50} ${p95} ${p99}`);
  assert.ok(r.after.tokens_per_second > 0 && r.after.tokens_per_second_per_text > 0);
  assert.ok(r.after.mean_batch_size > 1 && r.after.mean_batch_size <= 2);
  assert.equal(r.after.passes_by_batch_size.length, 2);
  assert.deepEqual([r.open.open_sessions, r.closed.open_sessions], [2, 0]);
  const [one, other] = r.sizes;
  assert.ok(one > 0 && other === one, "a copy has as much as what it was copied from");
  assert.equal(r.open.cache_bytes - r.closed.cache_bytes, one, "and both together no more, until one goes on");
});

test("sessions are written beside each other, and each does what it is told in order", async () => {
  const r = await run(async () => {
    const options = { max_new_tokens: 20, eos_token_id: null, temperature: 0.8, seed: 6 };
    const write = async (prompt) => {
      const session = generator.session();
      // not one of these waits for the one before
      const parts = [session.generate(prompt, options).result, session.append(" and"), session.rewind(3)];
      parts.push(session.generate(" then", options).result);
      const [first, , , second] = await Promise.all(parts);
      const usage = session.context_usage;
      await session.dispose();
      return { texts: [first.text, second.text], usage, before: second.recipe.prompt };
    };
    const prompts = ["The old king", "Once upon a time", "The wolf"];
    const alone = [];
    for (const prompt of prompts) alone.push(await write(prompt));
    return { alone, together: await Promise.all(prompts.map(write)) };
  });
  assert.deepEqual(r.together, r.alone);
});

test("two elements share one generator without noticing", async () => {
  const r = await run(async () => {
    await import("/package/dist/elements.js");
    const asked = { device: "wasm", "max-new-tokens": "60", temperature: "0.8" };
    const [one, two] = [11, 12].map((seed) => {
      const element = document.createElement("gpt2-generator");
      for (const [name, value] of Object.entries({ ...asked, seed })) element.setAttribute(name, value);
      element.options = { eos_token_id: null };
      document.body.append(element);
      return element;
    });
    let nWorkers = 0;
    const { Worker: plain } = window;
    window.Worker = class extends plain {
      constructor(...args) {
        super(...args);
        nWorkers += 1;
      }
    };
    const both = await Promise.all([one.generate("The old king"), two.generate("Once upon a time")]);
    window.Worker = plain;
    one.remove();
    two.remove();
    const alone = [];
    const options = { max_new_tokens: 60, temperature: 0.8, eos_token_id: null };
    alone.push(await generator.complete("The old king", { ...options, seed: 11 }));
    alone.push(await generator.complete("Once upon a time", { ...options, seed: 12 }));
    return { both: both.map(({ text }) => text), alone: alone.map(({ text }) => text), nWorkers };
  });
  assert.deepEqual(r.both, r.alone);
  assert.equal(r.nWorkers, 1);
});

test("wrong numbers of texts and drafts are errors that name the option", async () => {
  const errors = await run(async (_, plain) => {
    const of = (promise) => promise.then(() => "no error", plain);
    const found = [];
    for (const max_batch_size of [0, 1.5, "4", null])
      found.push(await of(gpt2.createGenerator("demo", { device: "wasm", max_batch_size })));
    for (const num_return_sequences of [0, 1.5, 129, "2", true])
      found.push(await of(generator.complete("x", { seed: 1, num_return_sequences })));
    found.push(await of(generator.complete("x", { do_sample: false, num_return_sequences: 2 })));
    found.push(await of(generator.session().generate("x", { seed: 1, num_return_sequences: 2 }).result));
    for (const prompt_lookup_num_tokens of [-1, 1.5, "yes", true])
      found.push(await of(generator.complete("x", { prompt_lookup_num_tokens })));
    return found;
  });
  const expected = [
    ...Array(4).fill("max_batch_size"),
    ...Array(7).fill("num_return_sequences"),
    ...Array(4).fill("prompt_lookup_num_tokens"),
  ];
  assert.deepEqual(
    errors.map(({ code, option }) => [code, option]),
    expected.map((option) => ["invalid_option", option]),
  );
});
