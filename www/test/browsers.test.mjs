// The core tests in Chromium, Firefox and WebKit. Where one is not installed its tests are skipped; in CI they fail then.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { serve } from "../serve.mjs";
import { coreTests } from "./browsers/core.mjs";
import * as inPage from "./browsers/in-page.mjs";
import { BROWSERS, findPrograms, openKept } from "./browsers/open.mjs";
import { site, stop, WWW } from "./site.mjs";

const served = await site();
const page = await serve(WWW);
after(async () => {
  await stop(page.server);
  await served.close();
});

/** Runs a test; if it fails, the error says where a picture of the browser and its log are. */
async function keptIfFailing(tab, name, body) {
  try {
    await body();
  } catch (error) {
    const { message } = error;
    throw new Error(`${message}\n${tab.version}: ${await tab.keep(name)}`, { cause: error });
  }
}

for (const [name, browser] of Object.entries(BROWSERS)) {
  const { programs, missing } = findPrograms(browser.needs);
  if (missing.length > 0) {
    const why = `not found: ${missing.join(", ")}; where there is apt-get, ./build.sh test installs it`;
    test(name, { skip: process.env.CI ? false : why }, () => assert.fail(`${name}: ${why}`));
    continue;
  }
  describe(name, () => {
    const stage = { served, pageUrl: page.url, tab: undefined };
    before(async () => {
      stage.tab = await openKept(browser, programs);
    });
    after(() => stage.tab?.close());
    for (const [what, body] of Object.entries(coreTests(stage))) {
      test(what, () => keptIfFailing(stage.tab, what, body));
    }
    if (name !== "WebKit") return;
    test("a WebKit that shares no memory has one thread, and says so", async () => {
      const tab = await openKept(browser, programs, { canShare: false });
      try {
        await keptIfFailing(tab, "no shared memory", async () => {
          await tab.goto(served.url);
          const { isIsolated, canShare } = await tab.evaluate(inPage.features);
          assert.deepEqual([isIsolated, canShare], [true, false]);
          const argument = { model: "demo", prompt: "The old king", options: { threads: 2 } };
          const { threads, warnings, token_ids } = await tab.evaluate(inPage.write, argument);
          assert.deepEqual([threads, token_ids.length], [1, 20]);
          assert.deepEqual(warnings, ["threads: 1, since this browser has no `SharedArrayBuffer`"]);
        });
      } finally {
        await tab.close();
      }
    });
  });
}
