// The view Speed: it measures tiny shapes with finite numbers, stops when told to, and fits a narrow window.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const TINY = "n_layer=2&n_embd=64&n_head=4&vocab_size=512";
/** Measuring this takes long enough to be stopped. */
const SMALL = "n_layer=12&n_embd=256&n_head=4&vocab_size=2000";

const served = await serve(WWW);
const browser = await launch();
const context = await browser.newContext();
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const { page, thrown, shot } = await openWatchedPage(context);
after(async () => {
  await browser.close();
  await stop(served.server);
  assert.deepEqual(thrown, [], "errors that nobody caught");
});
/** Presses the button, and waits until the bench is in that state. */
const runUntil = async (state) => {
  await page.waitForSelector("#bench-threads-hint:not(:empty)", { state: "attached" });
  await page.click("#bench-run");
  await untilBench(state);
};
const untilBench = (state) =>
  untilInPage(
    page,
    `the bench is ${state}`,
    (state) => document.querySelector("#bench-status").dataset.state === state,
    state,
  );
/** A table body as [[name, cell, …]]. */
const table = (id) =>
  page.$$eval(`#${id} tr`, (rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));

for (const [dtype, threads] of [
  ["q8", 1],
  ["fp32", 2],
]) {
  test(`it measures ${dtype} on ${threads} thread(s)`, async () => {
    await page.goto(`${served.url}?view=speed&${TINY}&dtype=${dtype}&threads=${threads}`);
    await runUntil("ready");
    assert.equal(await page.textContent("#bench-status"), "Done.");
    assert.match(
      await page.textContent("#setup-used"),
      new RegExp(`2 layers of width 64 · ${dtype} · .* MB · ${threads} thread`),
    );
    const speeds = await table("speeds");
    assert.deepEqual(
      speeds.map(([name]) => name),
      [
        "read sweep",
        ...["prompt of 32", "prompt of 128", "prompt of 512"],
        ...["token after 32", "token after 512"],
        ...["2 texts after 32", "4 texts after 32", "8 texts after 32"],
      ],
    );
    for (const [name, ms, tokens, gb, share] of speeds) {
      assert.ok(Number(ms) >= 0 && ms !== "", `${name}: ${ms} ms`);
      if (name !== "read sweep") assert.ok(Number(tokens) > 0, `${name}: ${tokens} tokens/s`);
      if (!/^prompt|texts/.test(name)) assert.ok(Number(gb) > 0, `${name}: ${gb} GB/s`);
      if (name.startsWith("token")) assert.match(share, /^\d+ %$/);
    }
    const parts = await table("profiles");
    assert.deepEqual(
      parts.map(([name]) => name),
      ["qkv", "attention", "proj", "fc", "proj2", "head", "rest", "in all"],
    );
    for (const [name, ...cells] of parts) {
      assert.equal(cells.length, 3);
      for (const cell of cells) assert.match(cell, /^\d+(\.\d+)?( \(\d+ %\))?$/, name);
    }
    // the parts are timed inside the passes: most of a pass is in them, but for waking a thread, which counts as rest
    const percents = parts.slice(0, -2).map(([, cell]) => Number(/\((\d+) %\)/.exec(cell)[1]));
    assert.ok(percents.reduce((sum, x) => sum + x, 0) > (threads === 1 ? 50 : 5), percents.join(" "));
  });
}

test("it stops at once when told to, and starts again", async () => {
  await page.goto(`${served.url}?view=speed&${SMALL}`);
  for (let i = 0; i < 2; i++) {
    await runUntil("measuring");
    await page.click("#bench-cancel");
    await untilBench("ready");
    assert.equal(await page.textContent("#bench-status"), "Stopped.");
    assert.equal(await page.evaluate(() => document.activeElement.id), "bench-run");
  }
});

test("shapes that cannot be are refused in words", async () => {
  await page.goto(`${served.url}?view=speed&n_embd=65&n_head=4`);
  await runUntil("failed");
  assert.equal(await page.textContent("#bench-status"), "n_embd: expected a multiple of n_head (4), found 65");
});

test("it fits a narrow window, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 360, height: 800 });
    await page.goto(`${served.url}?view=speed&${TINY}`);
    await runUntil("ready");
    await shot(`bench-${colorScheme}`, { fullPage: true });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, colorScheme);
  }
});

const untilMeasured = () =>
  untilInPage(page, "the model is measured", () =>
    ["ready", "failed"].includes(document.querySelector("#measure-status").dataset.state),
  );

test("one press measures the model in use in each precision, and the result can be copied", async () => {
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.goto(`${served.url}?view=speed`);
  await page.waitForSelector("#measure:enabled");
  await page.click("#measure");
  await untilMeasured();
  assert.equal(await page.textContent("#measure-status"), "Done.");
  const rows = await page.$$eval("#measure-table tbody tr", (all) =>
    all.map((row) => [...row.children].map((cell) => cell.textContent)),
  );
  assert.deepEqual(
    rows.map(([name]) => name.split(",")[0]),
    ["CPU fp32", "CPU q8", "CPU q4"],
  );
  for (const cells of rows)
    assert.ok(
      cells.every((cell) => !/NaN|undefined|Infinity/.test(cell)),
      cells.join(" | "),
    );
  assert.equal(await page.locator(".chart canvas").count(), 2);
  await shot("speed-measured");

  await page.click("#copy-json");
  await untilInPage(page, "it is copied", () => document.querySelector("#copy-json").textContent === "Copied");
  const report = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  assert.equal(report.format, "gpt2-web-speed");
  assert.equal(report.model, "demo");
  assert.ok(report.sweep_bytes_per_second > 1e8 && report.hardware.logical_processors >= 1);
  const [fp32, q8, q4] = report.results;
  assert.equal(fp32.difference, 0);
  assert.ok(q8.difference > 0 && q8.difference < 0.3 && q4.difference > q8.difference, JSON.stringify([q8, q4]));
  for (const { load_ms, first_token_ms, prefill, decode, token_ms } of report.results) {
    assert.deepEqual(
      decode.map(({ n_tokens }) => n_tokens),
      [32, 128, 192],
    );
    for (const { tokens_per_second } of [...prefill, ...decode]) assert.ok(tokens_per_second > 1);
    assert.ok(load_ms > 0 && first_token_ms > 0);
    assert.ok(token_ms.p50 > 0 && token_ms.p50 <= token_ms.p95 && token_ms.p95 <= token_ms.p99);
  }
  await page.click("#copy-markdown");
  await untilInPage(page, "it is copied", () => document.querySelector("#copy-markdown").textContent === "Copied");
  const markdown = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(markdown, /\*\*demo\*\*, gpt2-web .*\n/);
  assert.equal(markdown.split("\n").filter((line) => line.startsWith("| CPU")).length, 3);
});

test("measuring is cancelled, and nothing chosen is said", async () => {
  await page.click("#measure");
  await page.click("#measure-cancel");
  await untilMeasured();
  assert.equal(await page.textContent("#measure-status"), "Stopped.");
  for (const dtype of ["q8", "q4", "fp32"]) await page.uncheck(`input[value="wasm ${dtype}"]`);
  await page.click("#measure");
  assert.equal(await page.textContent("#measure-status"), "Choose at least one.");
});
