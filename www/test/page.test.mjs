// The page end to end: it loads, types, streams, stops, reloads, works offline, and tells errors in words.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { safetensors } from "./safetensors.mjs";
import { site, stop, WWW } from "./site.mjs";
import { until, untilInPage } from "./until.mjs";
import { openWatchedPage, untilOffline } from "./watched-page.mjs";

const VIEWS = ["write", "speed", "models"];
const models = await site();
let served = await serve(WWW);
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
const { page, thrown, state, stateAfter, shot } = await openWatchedPage(context);
after(async () => {
  await browser.close();
  await stop(served.server);
  await models.close();
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

/** A run clears the outcome when it starts and writes it when it ends. */
const finished = () =>
  untilInPage(page, "a text has ended", () => document.querySelector("#outcome").textContent !== "");
const completion = () => page.textContent("#completion");
/** Opens a view as a visitor does. */
const open = (view) => page.click(`nav [data-view="${view}"]`);
/** Puts a model into the form of Models and loads it; it is loaded, or it failed, when the page is in that state. */
const load = async (model, end) => {
  await open("models");
  await page.fill("#model", model);
  await stateAfter(() => page.click("#load"), end);
};
const untilListed = (n) =>
  untilInPage(
    page,
    `${n} stored models are listed`,
    (n) => document.querySelectorAll("#stored-models li").length === n,
    n,
  );

test("the demo model is ready at once and says what it runs on", async () => {
  await page.goto(served.url);
  await state("ready");
  assert.match(await page.textContent("#engine"), /demo · CPU.* · q8/);
  assert.equal(await page.isVisible("#error"), false);
  await shot("ready");
  await page.click("#engine");
  await untilInPage(
    page,
    "the model is described",
    () => document.querySelector("#status").textContent !== "Starting…",
  );
  assert.match(await page.textContent("#status"), /demo is loaded.*CPU.*q8.*self-test passed/);
  assert.match(await page.textContent("#fallback"), /software adapter/);
  assert.equal(new URL(page.url()).search, "?view=models");
  await page.goBack();
  assert.equal(await page.isVisible("#prompt"), true);
});

test("typing a prompt streams text, piece by piece", async () => {
  await page.fill("#prompt", "The old king");
  await page.fill("#max_new_tokens", "3000"); // many frames' worth: the page shows what came once a frame
  await page.selectOption("#context_overflow", "slide");
  await page.evaluate(() => {
    window.pieces = [];
    new MutationObserver(() => window.pieces.push(document.querySelector("#completion").textContent)).observe(
      document.querySelector("#completion"),
      { childList: true, characterData: true, subtree: true },
    );
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
  // some thousand take the demo model no longer than a test takes to press a button
  await page.fill("#max_new_tokens", "50000");
  const isStopped = async (seed) => {
    await page.fill("#seed", String(seed));
    await page.click("#generate");
    await untilInPage(page, "the text is long, or has ended", () => {
      const isLong = document.querySelector("#completion").textContent.length >= 10_000;
      if (!isLong && document.querySelector("#outcome").textContent === "") return false;
      document.querySelector("#stop").click();
      window.stoppedMs = performance.now();
      return true;
    });
    await finished();
    return (await completion()).length >= 10_000;
  };
  // by chance the model ends its text earlier
  let seed = 8;
  while (!(await isStopped(seed))) assert.ok(++seed < 40, "a text of some thousand tokens");
  const waitedMs = await page.evaluate(() => performance.now() - window.stoppedMs);
  const text = await completion();
  assert.ok(waitedMs < 1000, `${waitedMs} ms`); // what has come is shown once a frame, so the page is never behind
  assert.match(await page.textContent("#outcome"), /stopped by you/);
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  assert.equal(await completion(), text, "nothing comes after stop");
});

test("a reload keeps the settings", async () => {
  await page.reload();
  await state("ready");
  assert.match(await page.inputValue("#seed"), /^\d+$/);
  assert.equal(await page.inputValue("#max_new_tokens"), "50000");
});

test("it opens and writes without a network", async () => {
  await untilOffline(page);
  await stop(served.server); // there is nobody there any more
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
    ["truncated", /files are incomplete or damaged.*model\.safetensors: .*expected \d+ bytes, found the end/s],
    ["llama", /not one that can run here.*model_type/s],
    ["nowhere", /incomplete or damaged.*config\.json/s],
  ]) {
    await open("models");
    await page.fill("#model", `${models.url}models/${name}/`); // another origin, as a hub is
    if (name === "truncated") await stateAfter(() => page.click("#load"), "failed");
    else {
      await page.click("#load");
      await page.waitForSelector("#estimate-problems li"); // told before anything is fetched
      await shot(`estimate-${name}`);
      await stateAfter(() => page.click("#fetch"), "failed");
    }
    assert.equal(await page.isVisible("#error"), true);
    assert.match(await page.textContent("#error"), words);
    await shot(`error-${name}`);
  }
  await load("demo", "ready");
  assert.equal(await page.isVisible("#error"), false);
});

test("a link's model is offered and not fetched, while the demo is ready", async () => {
  const asked = [];
  const weights = () => asked.filter((url) => url.endsWith(".safetensors"));
  // the sizes say 20 MB, as a server's answer to a question for them
  models.hooks.intercept = (request, response) => {
    if (request.method !== "HEAD") asked.push(request.url);
    if (request.method !== "HEAD" || !request.url.endsWith(".safetensors")) return false;
    response.writeHead(200, { "Content-Length": 20_000_000, "Access-Control-Expose-Headers": "Content-Length" }).end();
    return true;
  };
  await page.goto(`${served.url}?model=${models.url}models/whole/`);
  await state("ready");
  await page.waitForSelector("#estimate dd");
  assert.match(await page.textContent("#estimate"), /20\.\d MB.*Fetch and load/s);
  assert.match(await page.textContent("#engine"), /demo/);
  assert.deepEqual(weights(), []);
  await shot("estimate");
  models.hooks.intercept = undefined;
  await page.click("#estimate-dismiss");
  assert.equal(await page.isVisible("#estimate"), false);
  await page.goto(served.url);
  await state("ready");
});

test("Models lists what is kept and deletes it", async () => {
  await load(`${models.url}models/whole/`, "ready");
  const names = () => page.$$eval("#stored-models .name", (all) => all.map((e) => e.textContent));
  await untilListed(2);
  assert.deepEqual((await names()).sort(), ["demo", `${models.url}models/whole/`].sort());
  await shot("storage");
  await page.click(`button[aria-label="Delete ${models.url}models/whole/"]`);
  await untilListed(1);
  assert.deepEqual(await names(), ["demo"]);
  assert.match(await page.textContent("#quota-text"), /used of the .* that the browser allows/);
  await load("demo", "ready");
});

test("Models lists a download that stopped, and deletes it", async () => {
  const weights = safetensors([
    ["transformer.h.0.attn.bias", { dtype: "U8", shape: [9_000_000], data: Buffer.alloc(9_000_000) }],
  ]);
  models.hooks.intercept = (request, response) => {
    if (request.url !== "/models/whole/model.safetensors" || request.method === "HEAD") return false;
    response.writeHead(200, {
      ETag: '"t"',
      "Content-Type": "application/octet-stream",
      "Content-Length": weights.length,
    });
    response.write(weights.subarray(0, 5_000_000)); // and no more
    return true;
  };
  await load(`${models.url}models/whole/`, "loading");
  await until("a chunk of the weights is stored", () =>
    page.evaluate(async () => {
      const { listModels } = await import("/dist/index.js");
      return (await listModels()).some((model) => !model.complete && model.bytes > 4e6);
    }),
  );
  await page.click("#cancel-load");
  models.hooks.intercept = undefined;
  await page.reload();
  await state("ready");
  await open("models");
  const row = page.locator("#stored-models li", { hasText: "models/whole" });
  // this server does not let another origin's page see how large its answer is
  assert.match(await row.textContent(), /partly downloaded, [45]\.\d MB so far, resumes where it stopped/);
  await shot("storage-part");
  await row.getByRole("button", { name: "Delete" }).click();
  await untilListed(1);
});

test("the elements write and complete", async () => {
  await page.goto(`${served.url}test/elements.html`);
  await page.evaluate(() => {
    window.written = "";
    const generator = document.querySelector("gpt2-generator");
    generator.addEventListener("gpt2-done", (event) => (window.written = event.detail.text), { once: true });
  });
  const button = page.getByRole("button", { name: /generate|write/i });
  await button.first().click();
  await untilInPage(page, "the generator has written", () => window.written !== "");
  const written = await page.evaluate(() => window.written);
  const shown = await page.evaluate(() => document.querySelector("gpt2-generator").shadowRoot.textContent);
  assert.ok(shown.includes(written), `${shown} shows not ${written}`);

  await page.click("#note");
  await page.fill("#note", "");
  await page.keyboard.type("The old king");
  await untilInPage(
    page,
    "a suggestion is whole",
    () => document.querySelector("gpt2-autocomplete").getAttribute("state") === "suggesting",
  );
  await page.keyboard.press("Tab");
  const value = await page.inputValue("#note");
  assert.ok(value.startsWith("The old king") && value.length > "The old king".length, value);
});

test("a narrow page needs no sideways scrolling, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const width of [360, 768, 1440]) {
      await page.setViewportSize({ width, height: 800 });
      for (const view of VIEWS) {
        await page.goto(`${served.url}?view=${view}`);
        await state("ready");
        await shot(`${view}-${colorScheme}-${width}`, { fullPage: true });
        const where = `${view} ${colorScheme} ${width}`;
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, where);
      }
    }
  }
});
