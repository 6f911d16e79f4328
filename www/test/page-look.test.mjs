// The view Look: colours, figures, rivals, attention, another model beside, and failures.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { site, stop, WWW } from "./site.mjs";
import { untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const models = await site();
const served = await serve(WWW);
const browser = await launch();
const { page, thrown, state, shot } = await openWatchedPage(
  await browser.newContext({ viewport: { width: 1200, height: 900 } }),
);
after(async () => {
  await browser.close();
  await stop(served.server);
  await models.close();
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

const untilRead = (text) =>
  untilInPage(
    page,
    "the text is read",
    (text) => {
      const surprise = document.querySelector("#surprise");
      const read = surprise.pieces?.map((piece) => piece.text).join("");
      return surprise.state === "ready" && read === text;
    },
    text,
  );
const read = async (text) => {
  await page.fill("#look-text", text);
  await untilRead(text);
};
const pieces = () => page.evaluate(() => [...document.querySelector("#surprise").pieces]);
/** The table of figures as { name: [cell, …] }. */
const sums = () =>
  page.$$eval("#sums tr", (rows) =>
    Object.fromEntries(
      rows.map(({ children: [name, ...cells] }) => [name.textContent, cells.map((it) => it.textContent)]),
    ),
  );
const chooseToken = (index) => page.evaluate((index) => document.querySelector("#surprise").choose(index), index);

test("the example is there before a model is, with the numbers that the model then finds", async () => {
  const visit = await browser.newContext();
  const tab = await visit.newPage();
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await tab.route(/model\.safetensors/, async (route) => {
    await held;
    await route.continue();
  });
  await tab.goto(`${served.url}?view=look&dtype=fp32&device=wasm`);
  const read = () => tab.evaluate(() => [...document.querySelector("#surprise").pieces]);
  await tab.waitForFunction(() => document.querySelector("#surprise").pieces?.length > 30);
  const stored = await read();
  assert.equal(await tab.evaluate(() => document.documentElement.dataset.state), "loading");
  assert.match(await tab.textContent("#sums"), /Perplexity\d/);
  assert.ok((await tab.locator("#surprise .token[data-band='1']").count()) > 2);
  release();
  await tab.waitForFunction(() => document.querySelector("#surprise").state === "ready");
  const found = await read();
  assert.equal(found.map(({ text }) => text).join("|"), stored.map(({ text }) => text).join("|"));
  for (const [i, { text, bits, rank, entropy }] of found.entries()) {
    const known = stored[i];
    assert.deepEqual([known.rank, known.start, known.firstToken], [rank, found[i].start, found[i].firstToken], text);
    for (const [a, b] of [
      [bits, known.bits],
      [entropy, known.entropy],
    ])
      assert.ok(Math.abs((a ?? 0) - (b ?? 0)) < 0.002, `${text}: ${b} is stored, ${a} was found (look-example.mjs)`);
  }
  await visit.close();
});

test("the example is read at once, and its figures are those of its tokens", async () => {
  await page.goto(`${served.url}?view=look`);
  assert.equal(await page.getAttribute('nav [data-view="look"]', "aria-current"), "page");
  await state("ready");
  await untilRead(await page.inputValue("#look-text"));
  const all = await pieces();
  assert.equal(all[0].bits, null);
  const bits = all.reduce((sum, piece) => sum + (piece.bits ?? 0), 0);
  const nTokens = all.slice(1).reduce((sum, piece) => sum + piece.nTokens, 0);
  const figures = await sums();
  assert.equal(Number(figures.Tokens[0]), nTokens);
  assert.ok(Math.abs(Number(figures.Perplexity[0]) / 2 ** (bits / nTokens) - 1) < 0.05, figures.Perplexity[0]);
  const bytes = new TextEncoder().encode(
    all
      .slice(1)
      .map(({ text }) => text)
      .join(""),
  ).length;
  assert.ok(Math.abs(Number(figures["Bits per byte"][0]) - bits / bytes) < 0.001);
  await shot("look");
});

test("bands are as in GLTR, and no character is broken", async () => {
  await read("The old king had a naïve 🦊 and a zyzzyva.");
  const all = await pieces();
  assert.ok(all.every(({ text }) => !text.includes("\ufffd")));
  assert.ok(
    all.some(({ nTokens }) => nTokens > 1),
    "a character that is spread over tokens is one piece",
  );
  const shown = await page.evaluate(() =>
    [...document.querySelector("#surprise").shadowRoot.querySelectorAll(".token")].map((it) => it.dataset.band),
  );
  const bandOf = (rank) => (rank === null || rank < 10 ? "0" : rank < 100 ? "1" : rank < 1000 ? "2" : "3");
  assert.deepEqual(
    shown,
    all.map(({ rank }) => bandOf(rank)),
  );
  assert.ok(shown.includes("3"), shown.join());
});

test("modes and numbers change what is shown, not what was measured", async () => {
  const before = await pieces();
  const numbers = () =>
    page.evaluate(() =>
      [...document.querySelector("#surprise").shadowRoot.querySelectorAll(".token")].map((it) => it.dataset.number),
    );
  await page.check("#look-numbers");
  const shown = { rank: before.map(({ rank }) => (rank === null ? undefined : String(rank + 1))) };
  for (const name of ["bits", "entropy"])
    shown[name] = before.map((piece) => (piece[name] === null ? undefined : piece[name].toFixed(1)));
  for (const [mode, expected] of Object.entries(shown)) {
    await page.check(`input[name="look-mode"][value="${mode}"]`, { force: true });
    assert.deepEqual(await numbers(), expected, mode);
    await shot(`look-${mode}`);
  }
  await page.uncheck("#look-numbers");
  await page.check('input[name="look-mode"][value="rank"]', { force: true });
  assert.deepEqual(await pieces(), before);
});

test("a token that is pressed tells its rivals, and what it looked at by layer and head", async () => {
  await read("Once upon a time there was a king. The king had a daughter.");
  const token = page.locator("#surprise .token").nth(7);
  await token.click();
  await page.waitForSelector("#attention:not([hidden])");
  const detail = await page.evaluate(
    () => document.querySelector("#surprise").shadowRoot.querySelector("#detail").textContent,
  );
  assert.match(detail, /king.* bits? · /);
  const weights = () =>
    page.evaluate(() =>
      [...document.querySelector("#surprise").shadowRoot.querySelectorAll(".token")].map((it) =>
        it.hasAttribute("data-weight") ? Number(it.style.getPropertyValue("--weight")) : 0,
      ),
    );
  const mean = await weights();
  assert.equal(Math.max(...mean), 1);
  assert.ok(
    mean.slice(8).every((weight) => weight === 0),
    "nothing is seen of what comes after",
  );
  assert.ok(mean.filter((weight) => weight > 0).length > 3, mean.join());
  const n = { layer: 4, head: 5 }; // of the demo model
  for (const [name, count] of Object.entries(n))
    assert.equal(await page.locator(`#attention-${name} option`).count(), count + 1);
  await page.selectOption("#attention-layer", "2");
  await page.selectOption("#attention-head", "1");
  assert.notDeepEqual(await weights(), mean);
  await page.click("#attention-plots", { position: { x: 5, y: 5 } });
  assert.equal(await page.inputValue("#attention-layer"), "0");
  assert.equal(await page.inputValue("#attention-head"), "0");
  await shot("look-attention");
  await read("Another text.");
  assert.equal(await page.isVisible("#attention"), false, "it was of the text before");
});

test("a text longer than the window says by how much it slides", async () => {
  await read("The old king had three daughters and a very small garden. ".repeat(40).trim());
  assert.match(await page.textContent("#look-stride"), /window of 256 tokens: it slides on by 128/);
  await chooseToken(400);
  await page.waitForSelector("#attention:not([hidden])");
  await read("Short.");
  assert.equal(await page.isVisible("#look-stride"), false);
});

test("another model is compared by token, goes along with the text, and can be ended", async () => {
  await read("Once upon a time there was a king.");
  await page.selectOption("#compare-dtype", "q4");
  await page.click("#compare");
  const isTold = () => /differ most at/.test(document.querySelector("#compare-told").textContent);
  await untilInPage(page, "the two are compared", isTold);
  assert.match(await page.textContent("#compare-told"), /demo in q4 is (more|less) surprised/);
  assert.match(await page.textContent("#sums-head"), /Other model/);
  const compared = () => page.locator("#surprise .token[data-hot], #surprise .token[data-cool]").count();
  assert.ok((await compared()) > 3);
  await shot("look-compared");
  await page.fill("#look-text", "The queen had a daughter.");
  await untilRead("The queen had a daughter.");
  await untilInPage(page, "the new text is compared", isTold);
  await page.click("#compare-end");
  await untilInPage(page, "the comparison is over", () => document.querySelector("#compare-told").textContent === "");
  assert.equal(await compared(), 0);
});

test("a large model is told of before it is fetched, and one that fails is told in words", async () => {
  await page.fill("#compare-model", `${models.url}models/no-weights`);
  await page.click("#compare");
  await page.waitForSelector("#error:not([hidden])");
  assert.match(await page.textContent("#error"), /incomplete or damaged/);
  await page.click("#error-dismiss");
  assert.ok((await pieces()).length > 0, "the text stays as it was read");
});

test("the text of Write is taken over, and another model reads it anew", async () => {
  await page.click('nav [data-view="write"]');
  await page.fill("#text", "Written there.");
  await page.click('nav [data-view="look"]');
  await page.click("#look-take");
  await untilRead("Written there.");
  const before = await pieces();
  await page.click('nav [data-view="models"]');
  await page.selectOption("#dtype", "q4");
  await page.fill("#model", "demo");
  await page.click("#load");
  await untilInPage(page, "q4 is loaded", () => /q4/.test(document.querySelector("#engine-text").textContent));
  await page.click('nav [data-view="look"]');
  await untilRead("Written there.");
  assert.notDeepEqual(await pieces(), before);
});

test("on a phone a tap tells of a token", async () => {
  const phone = await browser.newContext({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  const tab = await phone.newPage();
  await tab.goto(`${served.url}?view=look`);
  await tab.waitForFunction(() => document.querySelector("#surprise").state === "ready");
  await tab.locator("#surprise .token").nth(4).tap();
  const detail = await tab.evaluate(
    () => document.querySelector("#surprise").shadowRoot.querySelector("#said").textContent,
  );
  assert.match(detail, /bits? · /);
  await phone.close();
});
