// Threads on hosts that send no COOP and COEP headers: the page's own service worker, and the package's coi-sw.js.
import assert from "node:assert/strict";
import { copyFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { WWW, site } from "./site.mjs";
import { serve } from "../serve.mjs";

let browser, packed, www;

/** Sends what a plain host sends: none of the headers that isolate. */
function plain(_request, response) {
  const write = response.writeHead.bind(response);
  response.writeHead = (status, headers = {}) => write(status, Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith("Cross-Origin-"))));
  return false;
}

before(async () => {
  browser = await launch();
  packed = await site();
  packed.hooks.intercept = plain;
  www = await serve(WWW, 0, plain);
});
after(async () => {
  await browser?.close();
  packed?.close();
  www?.server.close();
  www?.server.closeAllConnections();
});

/** How many threads a generator has when it is asked for two, and why not two. */
const threads = (page, entry, model) =>
  page.evaluate(async ({ entry, model }) => {
    const { createGenerator } = await import(entry);
    const generator = await createGenerator(model, { device: "wasm", threads: 2, cache: false });
    const { token_ids } = await generator.complete("The old king", { max_new_tokens: 4, do_sample: false, eos_token_id: null });
    const { threads } = generator.info;
    await generator.dispose();
    return { threads, n_tokens: token_ids.length };
  }, { entry, model });

for (const query of ["", "?coep=credentialless"]) {
  test(`coi-sw.js${query} isolates a package user's page after one reload`, async () => {
    copyFileSync(path.join(packed.root, "package/dist/coi-sw.js"), path.join(packed.root, "coi-sw.js"));
    // the line of docs/threads.md
    const line = `if (!crossOriginIsolated && !navigator.serviceWorker?.controller) navigator.serviceWorker?.register("./coi-sw.js${query}").then(() => navigator.serviceWorker.ready).then(() => location.reload());`;
    writeFileSync(path.join(packed.root, "threads.html"), `<!doctype html><meta charset=utf-8><title>threads</title><link rel=icon href="data:,"><script>${line}</script>`);
    const page = await (await browser.newContext()).newPage();
    let n_visits = 0;
    page.on("load", () => (n_visits += 1));
    await page.goto(`${packed.url}threads.html`);
    await page.waitForFunction(() => crossOriginIsolated, null, { timeout: 30_000 });
    await page.waitForTimeout(300);
    assert.equal(n_visits, 2, "one reload and no more");
    assert.deepEqual(await threads(page, "/package/dist/index.js", `${packed.url}models/whole/`), { threads: 2, n_tokens: 4 });
    await page.context().close();
  });
}

test("without it there is one thread", async () => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(packed.url);
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  assert.equal((await threads(page, "/package/dist/index.js", `${packed.url}models/whole/`)).threads, 1);
  await page.context().close();
});

test("the page's own service worker isolates it from the second visit on, offline too", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const ready = () => page.waitForFunction(() => document.documentElement.dataset.state === "ready", null, { timeout: 60_000 });
  await page.goto(www.url);
  await ready();
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  await page.waitForFunction(() => /Reload this page once/.test(document.querySelector("#notes").textContent) || navigator.hardwareConcurrency < 2);
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.reload();
  await ready();
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  assert.equal(await page.evaluate(() => document.querySelector("#notes").textContent.includes("Reload this page")), false);
  assert.deepEqual(await threads(page, "./dist/index.js", `${www.url}demo/`), { threads: 2, n_tokens: 4 });
  await context.setOffline(true);
  await page.reload();
  await ready();
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  await context.close();
});
