// Threads on hosts that send no COOP and COEP headers: the page's own service worker, and the package's coi-sw.js.
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { stop, WWW, withoutIsolation } from "./site.mjs";
import { openStage } from "./stage.mjs";
import { untilInPage } from "./until.mjs";
import { openWatchedPage, untilOffline } from "./watched-page.mjs";

/** Answers as plain hosts do. */
const plain = (_request, response) => {
  withoutIsolation(response);
  return false;
};
const { browser, served } = await openStage();
served.hooks.intercept = plain;
const www = await serve(WWW, 0, plain);
after(() => stop(www.server));

/** The script that the documentation gives. */
const [DOCUMENTED] = /(?<=<script>\n).*coi-sw\.js.*(?=\n<\/script>)/.exec(
  readFileSync(path.join(WWW, "../docs/threads.md"), "utf8"),
);

/** How many threads a generator has when it is asked for two, and why not two. */
const threads = (page, entry, model) =>
  page.evaluate(
    async ({ entry, model }) => {
      const { createGenerator } = await import(entry);
      const generator = await createGenerator(model, { device: "wasm", threads: 2, cache: false });
      const { token_ids } = await generator.complete("The old king", {
        max_new_tokens: 4,
        do_sample: false,
        eos_token_id: null,
      });
      const { threads } = generator.info;
      await generator.dispose();
      return { threads, nTokens: token_ids.length };
    },
    { entry, model },
  );

for (const query of ["", "?coep=credentialless"]) {
  test(`coi-sw.js${query} isolates a package user's page after one reload`, async () => {
    copyFileSync(path.join(served.root, "package/dist/coi-sw.js"), path.join(served.root, "coi-sw.js"));
    const line = DOCUMENTED.replace("./coi-sw.js", `./coi-sw.js${query}`);
    writeFileSync(
      path.join(served.root, "threads.html"),
      `<!doctype html><meta charset=utf-8><title>threads</title><link rel=icon href="data:,"><script>${line}</script>`,
    );
    const page = await (await browser.newContext()).newPage();
    const isVisit = (url) => url === "/threads.html";
    const nBefore = served.requests.filter(isVisit).length;
    await page.goto(`${served.url}threads.html`);
    await untilInPage(page, "the page is isolated", () => crossOriginIsolated);
    const expected = { threads: 2, nTokens: 4 };
    assert.deepEqual(await threads(page, "/package/dist/index.js", `${served.url}models/whole/`), expected);
    assert.equal(served.requests.filter(isVisit).length - nBefore, 2, "one reload and no more");
    await page.context().close();
  });
}

test("without it there is one thread", async () => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(served.url);
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  assert.equal((await threads(page, "/package/dist/index.js", `${served.url}models/whole/`)).threads, 1);
  await page.context().close();
});

test("the page's own service worker isolates it from the second visit on, offline too", async () => {
  const context = await browser.newContext();
  const { page, state } = await openWatchedPage(context);
  const isIsolated = () => page.evaluate(() => crossOriginIsolated);
  await page.goto(www.url);
  await state("ready");
  assert.equal(await isIsolated(), false);
  await untilInPage(page, "the page says that a reload gives it threads", () => {
    const isTold = document.querySelector("#notes").textContent.includes("Reload this page once");
    return isTold || navigator.hardwareConcurrency < 2;
  });
  await untilOffline(page);
  await page.reload();
  await state("ready");
  assert.equal(await isIsolated(), true);
  const notes = await page.textContent("#notes");
  assert.ok(!notes.includes("Reload this page"), notes);
  assert.deepEqual(await threads(page, "./dist/index.js", `${www.url}demo/`), { threads: 2, nTokens: 4 });
  await context.setOffline(true);
  await page.reload();
  await state("ready");
  assert.equal(await isIsolated(), true);
  await context.close();
});
