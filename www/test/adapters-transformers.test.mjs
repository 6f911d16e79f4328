// The adapter for pages that come from transformers.js, in a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertOptions, openAdapters } from "./adapters-stage.mjs";

const run = await openAdapters();

const SAMPLED = { max_new_tokens: 20, do_sample: true, temperature: 0.9, top_k: 40, seed: 7 };

test("a pipeline writes what the generator writes", async () => {
  const r = await run(async (SAMPLED) => {
    const events = [];
    const pipe = await hf.pipeline("text-generation", "demo", {
      device: "cpu",
      dtype: "int8",
      cache: false,
      progress_callback: (event) => events.push(event),
    });
    const one = await pipe("The old king", SAMPLED);
    const several = await pipe(["The old king", "Once upon"], { ...SAMPLED, return_full_text: false });
    const sequences = await pipe("The old king", { ...SAMPLED, num_return_sequences: 2, num_beams: 1 });
    const bounded = await pipe("The old king", { max_length: 12, do_sample: false, eos_token_id: null });
    const { input_ids, attention_mask } = await pipe.tokenizer(["The old king", "Once upon"]);
    const decoded = await pipe.tokenizer.decode(input_ids[0].map(BigInt), { skip_special_tokens: true });
    const count = await pipe.tokenizer(bounded[0].generated_text);
    const { info } = pipe.generator;
    await pipe.dispose();
    const gone = await pipe("x").catch((error) => error.code);
    const texts = await Promise.all(
      [
        ["The old king", 7],
        ["Once upon", 7],
        ["The old king", 8],
      ].map(([prompt, seed]) => generator.complete(prompt, { ...SAMPLED, seed }).then(({ text }) => text)),
    );
    return { one, several, sequences, input_ids, attention_mask, decoded, count, info, gone, texts, events };
  }, SAMPLED);
  const [king, once, other] = r.texts;
  assert.deepEqual(r.one, [{ generated_text: `The old king${king}` }]);
  assert.deepEqual(r.several, [[{ generated_text: king }], [{ generated_text: once }]]);
  assert.notEqual(king, other);
  assert.deepEqual(
    r.sequences.map((s) => s.generated_text),
    [`The old king${king}`, `The old king${other}`],
  );
  assert.equal(r.count.input_ids.length, 12);
  assert.equal(r.decoded, "The old king");
  assert.deepEqual(
    r.attention_mask.map((mask) => mask.length),
    r.input_ids.map((ids) => ids.length),
  );
  assert.deepEqual([r.info.device, r.info.dtype, r.gone], ["wasm", "q8", "disposed"]);
  const ready = r.events.at(-1);
  assert.deepEqual([ready.status, ready.task, ready.model], ["ready", "text-generation", "demo"]);
  assert.ok(r.events.every(({ status, file }) => file !== "" || ["progress_total", "ready"].includes(status)));
  const total = r.events.findLast(({ status }) => status === "progress_total");
  assert.equal(total.progress, 100);
  assert.ok(total.files["model.safetensors"].loaded > 1e6);
});

test("streamers, interruption and abort", async () => {
  const r = await run(async (SAMPLED) => {
    const pipe = await hf.pipeline("text-generation", generator);
    const stream = async (options) => {
      const [texts, tokens] = [[], []];
      const streamer = new hf.TextStreamer(pipe.tokenizer, {
        callback_function: (text) => texts.push(text),
        token_callback_function: (ids) => tokens.push(...ids.map(Number)),
        ...options,
      });
      const [{ generated_text }] = await pipe("The old king", { ...SAMPLED, streamer });
      return { texts, tokens, generated_text };
    };
    const whole = await stream({});
    const skipping = await stream({ skip_prompt: true });
    const ids = await pipe.tokenizer.encode("The old king");
    const { token_ids, text } = await generator.complete("The old king", SAMPLED);

    const ends = [];
    class Upper extends hf.TextStreamer {
      on_finalized_text(text, isEnd) {
        ends.push([text.toUpperCase(), isEnd]);
      }
    }
    await pipe("The old king", { ...SAMPLED, streamer: new Upper(pipe.tokenizer, { skip_prompt: true }) });

    const long = { max_new_tokens: 200, do_sample: false, eos_token_id: null };
    const stopping_criteria = new hf.InterruptableStoppingCriteria();
    let n = 0;
    const counting = { callback_function: () => ++n === 4 && stopping_criteria.interrupt(), skip_prompt: true };
    const streamer = new hf.TextStreamer(pipe.tokenizer, counting);
    const interrupted = await pipe("The old king", { ...long, streamer, stopping_criteria });
    const full = await generator.complete("The old king", long);

    const controller = new AbortController();
    const aborting = { callback_function: () => controller.abort(), skip_prompt: true };
    const aborted = await pipe("The old king", {
      ...long,
      signal: controller.signal,
      streamer: new hf.TextStreamer(pipe.tokenizer, aborting),
    }).catch((error) => error.name);
    const failing = { callback_function: () => JSON.parse("{"), skip_prompt: true };
    const failed = await pipe("The old king", {
      ...long,
      streamer: new hf.TextStreamer(pipe.tokenizer, failing),
    }).catch((error) => error.name);
    return { whole, skipping, ids, token_ids, text, ends, interrupted, full, aborted, failed };
  }, SAMPLED);
  assert.equal(r.whole.texts.join(""), `The old king${r.text}`);
  assert.equal(r.whole.generated_text, `The old king${r.text}`);
  assert.deepEqual(r.whole.tokens, [...r.ids, ...r.token_ids]);
  assert.equal(r.skipping.texts.join(""), r.text);
  assert.ok(r.skipping.texts.length > 5, "it comes in pieces");
  assert.deepEqual(r.skipping.tokens, r.token_ids);
  assert.equal(r.ends.map(([text]) => text).join(""), r.text.toUpperCase());
  assert.deepEqual(r.ends.at(-1), ["", true]);
  const [{ generated_text }] = r.interrupted;
  assert.ok(`The old king${r.full.text}`.startsWith(generated_text));
  assert.ok(generated_text.length > "The old king".length && generated_text.length < r.full.text.length);
  assert.deepEqual([r.aborted, r.failed], ["AbortError", "SyntaxError"]);
});

test("what cannot be done is named", async () => {
  const errors = await run(async (_, plain) => {
    const pipe = await hf.pipeline("text-generation", generator);
    const streamer = new hf.TextStreamer(pipe.tokenizer);
    return failures(
      [
        () => hf.pipeline("summarization", "demo"),
        () => hf.pipeline("text-generation", "demo", { device: "webnn" }),
        () => hf.pipeline("text-generation", "demo", { dtype: "q1" }),
        () => hf.pipeline("text-generation", "demo", { dtype: { decoder: "q8" } }),
        () => hf.pipeline("text-generation", "demo", { session_options: {} }),
        () => hf.pipeline("text-generation", generator, { dtype: "q8" }),
        () => pipe([{ role: "user", content: "x" }]),
        () => pipe("x", { num_beams: 4 }),
        () => pipe("x", { logits_processor: [] }),
        () => pipe("x", { stopping_criteria: [{}] }),
        () => pipe("x", { streamer: {} }),
        () => pipe(["x", "y"], { streamer }),
        () => pipe("x", { num_return_sequences: 0 }),
        () => pipe("The old king", { max_length: 2 }),
        () => pipe("x", { temperature: -1 }),
        () => pipe.tokenizer("x", { return_tensor: true }),
        () => pipe.tokenizer.decode([5], { skip_special_tokens: false }),
        () => new hf.TextStreamer(pipe.tokenizer, { skip_special_tokens: false }),
        () => new hf.TextStreamer(pipe.tokenizer, { decode_kwargs: {} }),
      ],
      plain,
    );
  });
  assertOptions(errors, [
    "task",
    "device",
    "dtype",
    "dtype",
    "session_options",
    "dtype",
    "texts",
    "num_beams",
    "logits_processor",
    "stopping_criteria",
    "streamer",
    "streamer",
    "num_return_sequences",
    "max_length",
    "temperature",
    "return_tensor",
    "skip_special_tokens",
    "skip_special_tokens",
    "decode_kwargs",
  ]);
});
