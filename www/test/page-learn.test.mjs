// The view Learn: a text is learnt, kept, switched on and off, saved and opened again; and adapters in the other views.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const served = await serve(WWW);
const browser = await launch();
const { page, thrown, state, shot } = await openWatchedPage(
  await browser.newContext({ viewport: { width: 1200, height: 900 }, acceptDownloads: true }),
);
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
after(async () => {
  await browser.close();
  await stop(served.server);
  assert.deepEqual(thrown, [], "errors that nobody caught");
  assert.deepEqual(complaints, [], "errors in the console");
});

/** A habit that the demo model has not. */
const LOG = Array.from({ length: 40 }, (_, i) => `Day ${i + 1}. Wind ${["north", "west"][i % 2]}, sea calm.\n`).join(
  "",
);

const text = (id) => page.textContent(`#${id}`);
const untilEnded = () =>
  untilInPage(page, "the learning has ended", () => !document.querySelector("#learn-ended").hidden);
const untilWritten = () =>
  untilInPage(page, "both samples are written", () =>
    ["before", "after"].every((side) => document.querySelector(`#learn-${side}`).textContent.length > 20),
  );
const unfold = () => page.evaluate(() => (document.querySelector("#learn-options").open = true));
const open = async (view) => {
  await page.click(`nav [data-view="${view}"]`);
};
const learn = async (from, epochs) => {
  await page.fill("#learn-text", from);
  await untilInPage(page, "it is told what it takes", () =>
    /step/.test(document.querySelector("#learn-cost").textContent),
  );
  await unfold();
  await page.fill("#learn-epochs", String(epochs));
  await page.fill("#learn-rate", "0.005");
  await page.click("#learn-start");
};

test("a text is learnt, and the same beginning goes on in its manner", { timeout: 180_000 }, async () => {
  await page.goto(`${served.url}?view=learn`);
  await state("ready");
  assert.equal(await page.title(), "Learn · GPT-2 in your browser");
  await learn(LOG, 8);
  await page.waitForSelector("#learn-stop:not([hidden])");
  assert.equal(await page.evaluate(() => document.activeElement.id), "learn-stop", "the focus is not lost");
  await untilInPage(page, "the plot grows", () => {
    const line = document.querySelector("#learn-plot polyline.learnt");
    return line?.getAttribute("points").split(" ").length > 3;
  });
  await shot("learn-running");
  await untilEnded();
  await untilWritten();
  const told = /went from (\d+\.\d+) to (\d+\.\d+)/.exec(await text("learn-told"));
  assert.ok(Number(told[2]) < 0.5 * Number(told[1]), await text("learn-told"));
  assert.match(await text("learn-after"), /Wind (north|west), sea/);
  assert.doesNotMatch((await text("learn-before")).replace("Day 1. Wind north, sea", ""), /Wind (north|west)/);
  assert.equal(await page.isChecked("#learn-adapters input"), true);
  assert.match(await page.getAttribute("#learn-plot svg", "aria-label"), /from \d.* to \d/);
  await shot("learn-ended");
});

test("it is on in Write, off by one press, and Look tells what it changes", { timeout: 120_000 }, async () => {
  await page.click("#learn-use");
  await page.waitForSelector("#view-write:not([hidden])");
  await page.click("#settings-button");
  assert.equal(await page.inputValue("#adapter-choice"), "=learned");
  await page.check("#greedy");
  await page.fill("#max_new_tokens", "16");
  await page.click("#settings-close");
  const write = async () => {
    await page.fill("#text", "Day 7. Wind");
    await page.press("#text", "Control+End");
    await page.press("#text", "Control+Enter");
    await untilInPage(page, "it is written", () =>
      /reached|ended/.test(document.querySelector("#outcome").textContent),
    );
    return page.inputValue("#text");
  };
  const on = await write();
  assert.match(on, /sea calm/);
  await page.click("#settings-button");
  await page.selectOption("#adapter-choice", "");
  await untilInPage(page, "it is off", () => document.querySelector("#announcer").textContent === "No adapter is on.");
  await page.click("#settings-close");
  assert.notEqual(await write(), on);
  await page.click("#settings-button");
  await page.selectOption("#adapter-choice", "=learned");
  await untilInPage(page, "it is on", () => document.querySelector("#announcer").textContent === "learned is on.");
  await page.click("#settings-close");

  await open("look");
  await page.fill("#look-text", LOG.slice(0, 200));
  await untilInPage(page, "the text is read", () => {
    const surprise = document.querySelector("#surprise");
    return surprise.state === "ready" && /Wind/.test(surprise.pieces.map(({ text }) => text).join(""));
  });
  await page.waitForSelector("#compare-adapter:not([hidden])");
  await page.click("#compare-adapter");
  await untilInPage(page, "the two are compared", () =>
    /differ most at/.test(document.querySelector("#compare-told").textContent),
  );
  assert.match(await text("compare-told"), /The model without learned is more surprised/);
  await page.click("#compare-end");
  await open("learn");
});

test("it is there after a reload, saved as a file, deleted and opened again", { timeout: 120_000 }, async () => {
  await page.reload();
  await state("ready");
  await page.waitForSelector("#learn-adapters input:checked");
  assert.equal(await page.inputValue("#learn-text"), LOG);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#learn-adapters >> text=Save")]);
  assert.equal(download.suggestedFilename(), "learned.zip");
  const bytes = readFileSync(await download.path());
  await open("models");
  await page.waitForSelector("#stored-adapters li");
  assert.match(await text("stored-adapters"), /learned.*adapter of demo/);
  await page.click('[aria-label="Delete the adapter learned"]');
  await page.waitForSelector("#stored-adapters-box", { state: "hidden" });
  await open("learn");
  assert.equal(await page.locator("#learn-adapters li").count(), 0);
  await page.setInputFiles("#adapter-files", { name: "my log.zip", mimeType: "application/zip", buffer: bytes });
  await page.waitForSelector("#learn-adapters input:checked");
  assert.match(await text("learn-adapters"), /my log/);
  await page.click("#learn-adapters >> text=Delete");
  await page.waitForSelector("#learn-adapters-none:not([hidden])");
  assert.equal(await page.evaluate(() => document.activeElement.id), "learn-adapters-heading");
});

test("stop keeps what it has, cancel keeps nothing", { timeout: 120_000 }, async () => {
  await learn(LOG, 100);
  await untilInPage(page, "it learns", () => /^step/.test(document.querySelector("#learn-told").textContent));
  await page.click("#learn-cancel");
  await untilInPage(page, "it is cancelled", () =>
    /Cancelled/.test(document.querySelector("#learn-outcome").textContent),
  );
  assert.equal(await page.locator("#learn-adapters li").count(), 0);
  await page.click("#learn-start");
  await untilInPage(page, "it learns", () => /^step [3-9]/.test(document.querySelector("#learn-told").textContent));
  const beganMs = performance.now();
  await page.click("#learn-stop");
  await page.waitForSelector("#learn-adapters input:checked");
  assert.ok(performance.now() - beganMs < 5_000);
  await untilEnded();
  assert.match(await text("learn-told"), /Ended early/);
  await page.click("#learn-adapters >> text=Delete");
  await page.waitForSelector("#learn-adapters-none:not([hidden])");
});

test("a learning that a reload cut off goes on", { timeout: 120_000 }, async () => {
  await learn(LOG, 12);
  await untilInPage(page, "it learns", () => /^step [5-9]/.test(document.querySelector("#learn-told").textContent));
  await page.reload();
  await state("ready");
  await page.waitForSelector("#learn-again:not([hidden])");
  assert.match(await text("learn-again-told"), /cut off after \d+ steps? of \d+/);
  await page.click("#learn-resume");
  await untilEnded();
  assert.match(await text("learn-told"), /Done|Ended early/);
  assert.equal(await page.isVisible("#learn-again"), false);
});

test("all of the model learns, and is used in the place of the one it came from", { timeout: 120_000 }, async () => {
  await unfold();
  await page.selectOption("#learn-method", "full");
  assert.equal(await page.isDisabled("#learn-rank"), true);
  await page.fill("#learn-text", LOG);
  await page.fill("#learn-epochs", "6");
  await page.fill("#learn-rate", "0.002");
  await page.click("#learn-start");
  await untilEnded();
  await untilWritten();
  assert.match(await text("learn-after"), /Wind|sea/);
  await page.click("#learn-use");
  await untilInPage(page, "the learnt model is loaded", () =>
    /files? from disk/.test(document.querySelector("#engine-text").textContent),
  );
  await page.waitForSelector("#view-write:not([hidden])");
});

test("what cannot be learnt or opened is told in words, and text files are taken", { timeout: 120_000 }, async () => {
  await page.goto(`${served.url}?view=learn`);
  await state("ready");
  await page.fill("#learn-text", "");
  await page.click("#learn-start");
  assert.match(await text("learn-outcome"), /needs a text/);
  await page.setInputFiles("#learn-files", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("One line.") });
  await untilInPage(page, "the file is there", () => document.querySelector("#learn-text").value === "One line.");
  await page.setInputFiles("#adapter-files", { name: "x.zip", mimeType: "application/zip", buffer: Buffer.from("no") });
  await page.waitForSelector("#error:not([hidden])");
  assert.match(await text("error"), /x\.zip: expected a zip/);
  await page.click("#error-dismiss");
  await page.setInputFiles("#adapter-files", {
    name: "adapter_config.json",
    mimeType: "application/json",
    buffer: Buffer.from('{"peft_type":"LORA","r":2,"target_modules":["q_proj"]}'),
  });
  await page.waitForSelector("#error:not([hidden])");
  assert.match(await text("error"), /adapter_/);
  await page.click("#error-dismiss");
  await unfold();
  await page.fill("#learn-rank", "999");
  await page.evaluate(() => (document.querySelector("#learn-options").open = false));
  await page.click("#learn-start");
  assert.equal(await page.evaluate(() => document.querySelector("#learn-options").open), true);
});

test("on a phone nothing is wider than the window", async () => {
  const phone = await browser.newContext({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  const tab = await phone.newPage();
  await tab.goto(`${served.url}?view=learn`);
  await tab.waitForSelector("#learn-start:enabled");
  await tab.tap("#learn-example");
  await tab.tap("#learn-start");
  await tab.waitForSelector("#learn-run:not([hidden])");
  assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth), 360);
  await phone.close();
});
