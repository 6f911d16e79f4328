// What the tests of the adapters begin with: a tab that has loaded them, and a generator to compare them with.
import assert from "node:assert/strict";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";

/** What the tests may use in the page's scripts. Runs there. */
async function prepare() {
  window.hf = await import("/package/dist/transformers.js");
  window.promptApi = await import("/package/dist/prompt-api.js");
  window.openai = await import("/package/dist/openai.js");
  window.generator = await gpt2.createGenerator("demo", { device: "wasm" });
  /** What each call of a list rejects with. */
  window.failures = (calls, plain) =>
    Promise.all(
      calls.map(async (call) => {
        try {
          await call();
        } catch (error) {
          return plain(error);
        }
        return { name: `nothing was thrown by ${call}` };
      }),
    );
  window.collect = async (iterable) => {
    const all = [];
    for await (const one of iterable) all.push(one);
    return all;
  };
  /** A stream's values; not every browser iterates over streams. */
  window.read = async (stream) => {
    const [reader, all] = [stream.getReader(), []];
    for (let next = await reader.read(); !next.done; next = await reader.read()) all.push(next.value);
    return all;
  };
}

/** Opens the tab. → a function that runs another one there */
export async function openAdapters() {
  const stage = await openStage();
  const page = await openTab(await stage.browser.newContext(), stage.served.url);
  const run = (body, argument) => runInTab(page, body, argument);
  await run(prepare);
  return run;
}

/** Checks that each error is an `InvalidOptionError` for its option. */
export function assertOptions(errors, options) {
  assert.deepEqual(
    errors.map(({ name, option, isBase }) => ({ name, option, isBase })),
    options.map((option) => ({ name: "InvalidOptionError", option, isBase: true })),
    errors.map(({ message }) => message).join("\n"),
  );
}
