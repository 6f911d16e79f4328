// The page end to end: it loads, types, streams, stops, reloads, works offline, and tells errors in words.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { safetensors } from "./flaky.mjs";
import { WWW, site } from "./site.mjs";
import { serve } from "../serve.mjs";

let browser, context, page, served, models;
const thrown = [];
const SHOTS = process.env.GPT2_WEB_SCREENSHOTS; // a folder to leave pictures in
const shot = async (name) => {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
};
const state = (name) => page.waitForFunction((name) => document.documentElement.dataset.state === name, name, { timeout: 60_000 });
/** A run clears the outcome when it starts and writes it when it ends. */
const finished = () => page.waitForFunction(() => document.querySelector("#outcome").textContent !== "", null, { timeout: 60_000 });
const completion = () => page.textContent("#completion");

before(async () => {
  models = await site();
  served = await serve(WWW);
  browser = await launch();
  context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  page = await context.newPage();
  page.on("pageerror", (error) => thrown.push(String(error)));
});
after(async () => {
  await browser?.close();
  served?.server.close();
  served?.server.closeAllConnections();
  models?.close();
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

test("the demo model is ready at once and says what it runs on", async () => {
  await page.goto(served.url);
  await state("ready");
  const status = await page.textContent("#status");
  assert.match(status, /demo is loaded.*CPU.*q8.*self-test passed/);
  assert.match(await page.textContent("#fallback"), /software adapter/);
  assert.equal(await page.isVisible("#error"), false);
  await shot("ready");
});

test("typing a prompt streams text, piece by piece", async () => {
  await page.fill("#prompt", "The old king");
  await page.fill("#max_new_tokens", "3000"); // many frames' worth: the page shows what came once a frame
  await page.selectOption("#context_overflow", "slide");
  await page.evaluate(() => {
    window.pieces = [];
    new MutationObserver(() => window.pieces.push(document.querySelector("#completion").textContent)).observe(document.querySelector("#completion"), { childList: true, characterData: true, subtree: true });
  });
  await page.press("#prompt", "Control+Enter");
  await finished();
  const pieces = await page.evaluate(() => window.pieces);
  assert.ok(pieces.length > 5, `${pieces.length} changes`);
  assert.equal(pieces.at(-1), await completion());
  assert.equal(await page.textContent("#prompt-echo"), "The old king");
  assert.match(await page.textContent("#speed"), /tokens\/s/);
  await shot("written");
});

test("the same seed writes the same text again", async () => {
  await page.fill("#seed", "7");
  const write = async () => {
    await page.click("#generate");
    await finished();
    return completion();
  };
  const first = await write();
  assert.equal(await write(), first);
  await page.fill("#seed", "8");
  assert.notEqual(await write(), first);
});

test("stop is heard after thousands of tokens as after the first, and keeps the text", async () => {
  await page.fill("#max_new_tokens", "50000"); // some thousand take the demo model no longer than a test takes to press a button
  await page.click("#generate");
  await page.waitForFunction(() => {
    if (document.querySelector("#completion").textContent.length < 10_000 && document.querySelector("#outcome").textContent === "") return false;
    document.querySelector("#stop").click();
    window.stopped_ms = performance.now();
    return true;
  });
  await finished();
  const waited_ms = await page.evaluate(() => performance.now() - window.stopped_ms);
  const text = await completion();
  assert.ok(waited_ms < 1000, `${waited_ms} ms`); // what has come is shown once a frame, so the page is never behind
  assert.match(await page.textContent("#outcome"), /stopped by you/);
  await page.waitForTimeout(300);
  assert.equal(await completion(), text, "nothing comes after stop");
});

test("a reload keeps the settings", async () => {
  await page.reload();
  await state("ready");
  assert.equal(await page.inputValue("#seed"), "8");
  assert.equal(await page.inputValue("#max_new_tokens"), "50000");
});

test("it opens and writes without a network", async () => {
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    const is_kept = async () => (await (await caches.open((await caches.keys())[0])).match("dist/gpt2_web_bg.wasm")) !== undefined;
    while (!(await is_kept())) await new Promise((resolve) => setTimeout(resolve, 50));
  });
  served.server.closeAllConnections();
  await new Promise((resolve) => served.server.close(resolve)); // there is nobody there any more
  await context.setOffline(true);
  await page.reload();
  await state("ready");
  await page.fill("#max_new_tokens", "10");
  await page.click("#generate");
  await finished();
  assert.ok((await completion()).length > 0);
  await shot("offline");
  await context.setOffline(false);
  const port = new URL(served.url).port;
  served = await serve(WWW, Number(port));
});

test("a broken checkpoint is told in words, and the page goes on", async () => {
  for (const [name, words] of [
    ["truncated", /files are incomplete or damaged.*model\.safetensors: expected 3872544 bytes/s],
    ["llama", /not one that can run here.*model_type/s],
    ["nowhere", /incomplete or damaged.*config\.json/s],
  ]) {
    await page.fill("#model", `${models.url}models/${name}/`); // another origin, as a hub is
    await page.click("#load");
    await state("loading");
    await state("failed");
    assert.equal(await page.isVisible("#error"), true);
    assert.match(await page.textContent("#error"), words);
    await shot(`error-${name}`);
  }
  await page.fill("#model", "demo");
  await page.click("#load");
  await state("ready");
  assert.equal(await page.isVisible("#error"), false);
});

test("the storage panel lists what is kept and deletes it", async () => {
  await page.fill("#model", `${models.url}models/whole/`);
  await page.click("#load");
  await state("loading");
  await state("ready");
  await page.click("#storage summary");
  const names = () => page.$$eval("#stored-models .name", (all) => all.map((e) => e.textContent));
  await page.waitForFunction(() => document.querySelectorAll("#stored-models li").length === 2);
  assert.deepEqual((await names()).sort(), ["demo", `${models.url}models/whole/`].sort());
  await shot("storage");
  await page.click(`button[aria-label="Delete ${models.url}models/whole/"]`);
  await page.waitForFunction(() => document.querySelectorAll("#stored-models li").length === 1);
  assert.deepEqual(await names(), ["demo"]);
  assert.match(await page.textContent("#quota-text"), /used of the .* that the browser allows/);
  await page.fill("#model", "demo");
  await page.click("#load");
  await state("loading");
  await state("ready");
});

test("the storage panel lists a download that stopped, and deletes it", async () => {
  const weights = safetensors([["transformer.h.0.attn.bias", { dtype: "U8", shape: [9_000_000], data: Buffer.alloc(9_000_000) }]]);
  models.hooks.intercept = (request, response) => {
    if (request.url !== "/models/whole/model.safetensors" || request.method === "HEAD") return false;
    response.writeHead(200, { ETag: '"t"', "Content-Type": "application/octet-stream", "Content-Length": weights.length });
    response.write(weights.subarray(0, 5_000_000)); // and no more
    return true;
  };
  await page.fill("#model", `${models.url}models/whole/`);
  await page.click("#load");
  await state("loading");
  const isBegun = () => page.evaluate(async () => (await (await import("/dist/index.js")).listModels()).some((model) => !model.complete && model.bytes > 4e6));
  while (!(await isBegun())) await page.waitForTimeout(50);
  await page.click("#cancel-load");
  models.hooks.intercept = undefined;
  await page.reload();
  await state("ready");
  await page.evaluate(() => (document.querySelector("#storage").open = true));
  const row = page.locator("#stored-models li", { hasText: "models/whole" });
  assert.match(await row.textContent(), /partly downloaded, [45]\.\d MB of 9\.\d MB, resumes where it stopped/);
  await shot("storage-part");
  await row.getByRole("button").click();
  await page.waitForFunction(() => document.querySelectorAll("#stored-models li").length === 1);
});

test("the elements write and complete", async () => {
  await page.goto(`${served.url}test/elements.html`);
  await page.waitForSelector("gpt2-generator");
  const done = page.evaluate(() => new Promise((resolve) => document.querySelector("gpt2-generator").addEventListener("gpt2-done", (e) => resolve(e.detail), { once: true })));
  await page.getByRole("button", { name: /generate|write/i }).first().click();
  await done;
  const shown = await page.evaluate(() => document.querySelector("gpt2-generator").shadowRoot.textContent);
  assert.ok(shown.length > 20);

  await page.click("#note");
  await page.fill("#note", "");
  await page.keyboard.type("The old king");
  const ghost = () => page.evaluate(() => document.querySelector("gpt2-autocomplete").shadowRoot?.textContent.trim() ?? "");
  await page.waitForFunction(() => (document.querySelector("gpt2-autocomplete").shadowRoot?.textContent.trim() ?? "").length > 2, null, { timeout: 30_000 });
  assert.ok((await ghost()).length > 0);
  await page.waitForTimeout(500);
  await page.keyboard.press("Tab");
  const value = await page.inputValue("#note");
  assert.ok(value.startsWith("The old king") && value.length > "The old king".length, value);
});

test("a narrow page needs no sideways scrolling, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const width of [360, 1200]) {
      await page.setViewportSize({ width, height: 800 });
      await page.goto(served.url);
      await state("ready");
      await shot(`${colorScheme}-${width}`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${colorScheme} ${width}`);
    }
  }
});
