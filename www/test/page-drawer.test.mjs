// Every option of `generate` can be set in Write, is checked in place, and goes along with a link.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const served = await serve(WWW);
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const { page, thrown, state } = await openWatchedPage(context);
after(async () => {
  await browser.close();
  await stop(served.server);
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

const unfold = async () => {
  if (await page.isHidden("#settings")) await page.click("#settings-button");
  await page.evaluate(() => (document.querySelector("#everything").open = true));
};
const write = async (text) => {
  await page.fill("#text", text);
  await page.press("#text", "Control+End");
  await page.evaluate(() => (document.querySelector("#outcome").textContent = ""));
  await page.press("#text", "Control+Enter");
  await untilInPage(page, "it is written", () => /reached|ended/.test(document.querySelector("#outcome").textContent));
  return (await page.inputValue("#text")).slice(text.length);
};

test("what has no control of its own is set as JSON", async () => {
  await page.goto(`${served.url}?view=write`);
  await state("ready");
  await unfold();
  await page.check("#greedy");
  await page.fill("#max_new_tokens", "6");
  const usual = await write("The old king");
  const first = await page.evaluate(async () => {
    const { createGenerator } = await import("/dist/index.js");
    const generator = await createGenerator("demo", { device: "wasm", threads: 1 });
    const { token_ids } = await generator.complete("The old king", { max_new_tokens: 1, do_sample: false });
    await generator.dispose();
    return token_ids[0];
  });
  await page.fill("#more_options", JSON.stringify({ logit_bias: { [first]: -100 }, prompt_lookup_num_tokens: 0 }));
  assert.notEqual(await write("The old king"), usual);
  await page.fill("#more_options", "");
  await page.check("#past_end");
  await page.fill("#min_new_tokens", "6");
  await write("The end.");
  assert.match(await page.textContent("#outcome"), /^6 tokens/);
});

test("what is wrong is told in place", async () => {
  for (const [typed, words] of [
    ["{", /Further options takes JSON/],
    ["[1]", /takes a JSON object/],
    ['{"temperature":1}', /cannot set temperature/],
    ['{"num_return_sequences":2}', /cannot set num_return_sequences/],
  ]) {
    await unfold();
    await page.fill("#more_options", typed);
    await page.click("#settings-close");
    await page.click("#generate");
    await page.waitForSelector("#error:not([hidden])");
    assert.match(await page.textContent("#error"), words);
    await page.click("#error-action");
    assert.equal(await page.evaluate(() => document.activeElement.id), "more_options");
    assert.equal(await page.getAttribute("#more_options", "aria-invalid"), "true");
  }
  await page.fill("#more_options", '{"no_such_option":1}');
  await page.click("#generate");
  await page.waitForSelector("#error:not([hidden])");
  assert.match(await page.textContent("#error"), /no_such_option/);
  await page.click("#error-dismiss");
});

test("a link carries them, and Back to the usual settings takes them away", async () => {
  await unfold();
  await page.fill("#more_options", '{"suppress_tokens":[5]}');
  await page.fill("#stop_strings", "wolf");
  await page.selectOption("#context_overflow", "slide");
  await page.click("#link");
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const visit = await browser.newContext();
  const tab = await visit.newPage();
  await tab.goto(link);
  await tab.waitForFunction(() => document.documentElement.dataset.state === "ready");
  for (const [id, value] of [
    ["more_options", '{"suppress_tokens":[5]}'],
    ["min_new_tokens", "6"],
    ["stop_strings", "wolf"],
    ["context_overflow", "slide"],
  ])
    assert.equal(await tab.inputValue(`#${id}`), value);
  assert.equal(await tab.evaluate(() => document.querySelector("#past_end").checked), true);
  await tab.click("#settings-button");
  await tab.click("#reset-sampling");
  assert.deepEqual(
    await tab.evaluate(() => ["min_new_tokens", "more_options"].map((id) => document.getElementById(id).value)),
    ["0", ""],
  );
  await visit.close();
});
