// Checkpoints as people publish them, loaded by the package in a real browser from a server and as chosen files, against
// what transformers makes of them. The same cases run natively in tests/cases.rs.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { WWW } from "./site.mjs";
import { openStageWithFreshTab } from "./stage.mjs";

const SHARED = process.env.GPT2_WEB_SHARED ?? path.resolve(WWW, "../../shared");
const CASES = path.join(SHARED, "cases/checkpoints");
if (process.env.CI || process.env.GPT2_WEB_SHARED) {
  assert.ok(existsSync(CASES), `${CASES} is missing; tests/README.md says where to get it`);
}
const names = existsSync(CASES) ? readdirSync(CASES).sort() : [];

const stage = await openStageWithFreshTab();
stage.served.hooks.intercept = (request, response) => {
  const asked = /^\/cases\/([\w-]+)\/([\w.-]+)$/.exec(new URL(request.url, stage.served.url).pathname);
  if (!asked) return false;
  const file = path.join(CASES, asked[1], asked[2]);
  if (existsSync(file) && asked[2] !== "expected.json") {
    const bytes = readFileSync(file);
    response.writeHead(200, { "Content-Length": bytes.length }).end(request.method === "HEAD" ? undefined : bytes);
  } else {
    response.writeHead(404).end();
  }
  return true;
};

/** What the package makes of a case; `files` are its files' bytes in base 64, or none if it is fetched. */
async function load({ name, files, expected }) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const blobs = files?.map(([file, text]) => [file, new Blob([bytes(text)])]);
  const model = blobs ? { files: Object.fromEntries(blobs) } : `/cases/${name}`;
  try {
    const generator = await gpt2.createGenerator(model, { device: "wasm", dtype: "fp32" });
    const { encode, decode, ids, n } = expected;
    const { tokenizer } = generator;
    const encoded = await Promise.all(encode.map(({ text }) => tokenizer.encode(text)));
    const decoded = await Promise.all(decode.map((line) => tokenizer.decode(line.ids)));
    const stream = generator.generate(ids, { max_new_tokens: n, do_sample: false, logprobs: true });
    const logprobs = [];
    for await (const chunk of stream) logprobs.push(chunk.logprob);
    const { token_ids, text, finish_reason } = await stream.result;
    const { warnings } = generator.info;
    await generator.dispose();
    return { warnings, encoded, decoded, token_ids, text, finish_reason, logprobs };
  } catch (error) {
    return { error: { name: error.name, code: error.code, message: error.message } };
  }
}

function compare(found, expected) {
  const says = (text, words) => {
    for (const word of words) assert.ok(text.toLowerCase().includes(word.toLowerCase()), `"${text}" lacks "${word}"`);
  };
  if (expected.outcome === "error") {
    assert.ok(found.error, "it is refused");
    assert.notEqual(found.error.code, "internal", found.error.message);
    return says(found.error.message, expected.error_says);
  }
  assert.equal(found.error, undefined, found.error?.message);
  assert.deepEqual(
    found.encoded,
    expected.encode.map(({ ids }) => ids),
  );
  assert.deepEqual(
    found.decoded,
    expected.decode.map(({ text }) => text),
  );
  assert.deepEqual(found.token_ids, expected.greedy);
  expected.logprobs?.forEach((logprob, i) => {
    assert.ok(Math.abs(found.logprobs[i] - logprob) <= 1e-4, `token ${i}: ${found.logprobs[i]}, not ${logprob}`);
  });
  if (expected.text !== undefined) assert.equal(found.text, expected.text);
  if (expected.finish_reason !== undefined) assert.equal(found.finish_reason, expected.finish_reason);
  if (typeof expected.warns === "boolean") assert.equal(found.warnings.length > 0, expected.warns, `${found.warnings}`);
  says(found.warnings.join("\n"), expected.warn_says);
}

for (const name of names) {
  test(`${name} is what transformers makes of it`, async () => {
    const folder = path.join(CASES, name);
    const expected = JSON.parse(readFileSync(path.join(folder, "expected.json"), "utf8"));
    const files = readdirSync(folder).filter((file) => file !== "expected.json");
    const chosen = files.map((file) => [file, readFileSync(path.join(folder, file)).toString("base64")]);
    compare(await stage.page.evaluate(load, { name, expected }), expected);
    // what the visit has kept is used the second time, and says the same
    compare(await stage.page.evaluate(load, { name, expected }), expected);
    compare(await stage.page.evaluate(load, { name, files: chosen, expected }), expected);
  });
}

test("the cases are there", { skip: names.length === 0 && "the folder is not here (tests/README.md)" }, () => {
  assert.ok(names.length >= 25, `${names.length} cases`);
});
