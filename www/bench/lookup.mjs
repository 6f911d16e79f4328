// What look-up drafts and company give, through the whole package in headless Chromium: `./build.sh bench lookup`.
//
//   --reps N       how often each text is written, with drafts and without in turn; the best of each counts (5)
//   --dtype DTYPE  q8
//   --threads N    1
//
// The model has GPT-2 124M's shapes and no weights but zeros, on which speed does not depend. What it writes is decided
// by `sequence_bias`: after the last tokens of a text only its next one can come. So the drafts meet a real text: a
// piece of code that is written again with changes, a page of a tale (Jean Ingelow, "Mopsa the Fairy", 1869), and that
// page again behind itself, as GPT-2's tokenizer cuts them (lookup-texts.json).
//
// With one thread, on Linux, time is what the worker's thread spends on a processor, so that what else runs on the
// machine disturbs less; elsewhere it is the time that passes.
import { readdirSync, readFileSync } from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import { serve } from "../serve.mjs";
import { launch } from "../test/browser.mjs";
import { WWW } from "./harness.mjs";

const { values } = parseArgs({
  options: {
    reps: { type: "string", default: "5" },
    dtype: { type: "string", default: "q8" },
    threads: { type: "string", default: "1" },
  },
});

/** The texts as ids of GPT-2's tokenizer, { prompt, text } by name; `words` are what the ids say, and on from there. */
const texts = JSON.parse(readFileSync(new URL("lookup-texts.json", import.meta.url), "utf8"));
const tale = [...texts.prose.prompt, ...texts.prose.text];
const EMPTY_LINE = [198, 198];
texts.copy = { prompt: [...tale, ...EMPTY_LINE], text: tale.slice(0, 400) };

/** Makes the model. Runs in the page. */
async function load({ entry, dtype, threads, shapes }) {
  const { createGenerator } = await import(entry);
  const { n_layer, n_embd: c, n_positions, vocab_size } = shapes;
  const header = {};
  let end = 0;
  const tensor = (name, ...shape) => {
    const begin = end;
    end += 2 * shape.reduce((n, d) => n * d, 1);
    header[name] = { dtype: "F16", shape, data_offsets: [begin, end] };
  };
  const both = (name, ...shape) => {
    tensor(`${name}.weight`, ...shape);
    tensor(`${name}.bias`, shape.at(-1));
  };
  tensor("wte.weight", vocab_size, c);
  tensor("wpe.weight", n_positions, c);
  for (let i = 0; i < n_layer; i++) {
    for (const norm of ["ln_1", "ln_2"]) both(`h.${i}.${norm}`, c);
    both(`h.${i}.attn.c_attn`, c, 3 * c);
    both(`h.${i}.attn.c_proj`, c, c);
    both(`h.${i}.mlp.c_fc`, c, 4 * c);
    both(`h.${i}.mlp.c_proj`, 4 * c, c);
  }
  both("ln_f", c);
  const json = new TextEncoder().encode(JSON.stringify(header));
  const tokenizer = await (await fetch("../demo/tokenizer.json")).blob(); // one is needed, but prompts are ids
  const files = {
    "config.json": new Blob([JSON.stringify({ model_type: "gpt2", ...shapes })]),
    "tokenizer.json": tokenizer,
    "model.safetensors": new Blob([BigUint64Array.of(BigInt(json.length)), json, new Uint8Array(end)]),
  };
  window.generator = await createGenerator({ files }, { device: "wasm", dtype, threads, cache: false });
  return generator.info;
}

/**
 * Writes a text, so many times at once; throws if it becomes another. Runs in the page. → seconds from the first token
 * on, and of the guesses how many were made and how many were right
 */
async function write({ prompt, text, n, lookup }) {
  const N_CONTEXT = 40; // so many tokens stand nowhere twice in what is written
  const all = [...prompt, ...text];
  const sequence_bias = text.map((_, i) => {
    const at = prompt.length + i + 1;
    return [all.slice(Math.max(0, at - N_CONTEXT - 1), at), 1000];
  });
  const before = await generator.stats();
  const { sequences, timings } = await generator.complete(prompt, {
    max_new_tokens: text.length,
    top_k: 1,
    seed: 1,
    eos_token_id: null,
    sequence_bias,
    num_return_sequences: n,
    prompt_lookup_num_tokens: lookup,
  });
  for (const { token_ids } of sequences) {
    const wrong = text.findIndex((id, i) => token_ids[i] !== id);
    if (wrong >= 0) throw new Error(`token ${wrong}: expected ${text[wrong]}, found ${token_ids[wrong]}`);
  }
  const after = await generator.stats();
  const right = ({ draft_tokens, draft_acceptance }) => Math.round(draft_tokens * (draft_acceptance ?? 0));
  const nGuessed = after.draft_tokens - before.draft_tokens;
  return { seconds: timings.predicted_ms / 1000, nGuessed, nRight: right(after) - right(before) };
}

/** Seconds that the renderers' workers have spent on processors, or `undefined` where nobody tells. */
async function workerSeconds(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  try {
    const tasks = processInfo
      .filter(({ type }) => type === "renderer")
      .flatMap(({ id }) => readdirSync(`/proc/${id}/task`).map((task) => `/proc/${id}/task/${task}`))
      .filter((task) => readFileSync(`${task}/comm`, "utf8").startsWith("DedicatedWorker"));
    return tasks.reduce((sum, task) => sum + Number(readFileSync(`${task}/schedstat`, "utf8").split(" ")[0]) / 1e9, 0);
  } catch {
    return undefined; // not Linux
  }
}

const { server, url } = await serve(WWW);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(`${url}test/elements.html`); // any page of this origin
  const shapes = { n_layer: 12, n_embd: 768, n_head: 12, n_positions: 1024, vocab_size: 50257 };
  const { dtype } = values;
  const info = await page.evaluate(load, {
    entry: `${url}dist/index.js`,
    dtype,
    threads: Number(values.threads),
    shapes,
  });
  const products = info.byte_products ? "products of bytes" : "16-bit products";
  console.log(
    `${os.cpus()[0].model}, Chromium ${browser.version()}: ${info.dtype}, ${info.threads} thread, ${products}`,
  );

  const hasOneThread = Number(values.threads) === 1 && (await workerSeconds(browser)) !== undefined;
  console.log(hasOneThread ? "tokens per second of the worker's thread" : "tokens per second");

  /** The best of some runs of each of some ways to write a text, which take turns; the first has the prompt read. */
  const best = async (ways) => {
    const found = ways.map(() => ({ perSecond: 0 }));
    await page.evaluate(write, { ...ways[0], text: ways[0].text.slice(0, 2) });
    for (let i = 0; i < Number(values.reps); i++) {
      for (const [j, way] of ways.entries()) {
        const before = await workerSeconds(browser);
        const run = await page.evaluate(write, way);
        const seconds = hasOneThread ? (await workerSeconds(browser)) - before : run.seconds;
        const perSecond = (way.n * way.text.length) / seconds;
        if (perSecond > found[j].perSecond) found[j] = { ...run, perSecond };
      }
    }
    return found;
  };
  const rounded = (x, digits) => Number(x.toFixed(digits));
  const rows = {};
  for (const [name, text] of Object.entries(texts)) {
    const ways = [0, "auto"].map((lookup) => ({ ...text, n: 1, lookup }));
    const [without, withDrafts] = await best(ways);
    rows[name] = {
      tokens: `${text.prompt.length} + ${text.text.length}`,
      without: rounded(without.perSecond, 1),
      "with drafts": rounded(withDrafts.perSecond, 1),
      ratio: rounded(withDrafts.perSecond / without.perSecond, 3),
      guessed: withDrafts.nGuessed,
      right: withDrafts.nRight,
    };
  }
  console.log("look-up drafts:");
  console.table(rows);

  const short = { prompt: texts.prose.prompt.slice(-32), text: texts.prose.text.slice(0, 64) };
  const counts = [1, 2, 4, 8];
  const together = await best(counts.map((n) => ({ ...short, n, lookup: 0 })));
  console.log("several texts at once, without drafts:");
  console.table(
    Object.fromEntries(
      counts.map((n, i) => {
        const { perSecond } = together[i];
        return [n, { "tokens/s": rounded(perSecond, 1), ratio: rounded(perSecond / together[0].perSecond, 2) }];
      }),
    ),
  );
} finally {
  await browser.close();
  server.close();
}
