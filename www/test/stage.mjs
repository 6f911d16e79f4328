// What a file of tests begins with and leaves behind: a browser, and the packed package on a server.
import { after, beforeEach } from "node:test";
import { launch } from "./browser.mjs";
import { site } from "./site.mjs";
import { openTab } from "./tab.mjs";

/** Opens a `browser` and serves the package (`served`), until the file's tests are over. */
export async function openStage() {
  const stage = { served: await site(), browser: await launch() };
  after(async () => {
    await stage.browser.close();
    await stage.served.close();
  });
  return stage;
}

/**
 * As {@link openStage}; every test begins with empty storage (`context`) and a `page` on the plain page. `prepare` runs
 * in each tab that is opened.
 */
export async function openStageWithFreshTab(prepare = () => {}) {
  const stage = await openStage();
  /** Opens another tab with the same storage. */
  stage.tab = async () => {
    const page = await openTab(stage.context, stage.served.url);
    await page.evaluate(prepare);
    return page;
  };
  /** Closes the tabs, forgets the storage, and opens a tab. */
  stage.renew = async () => {
    await stage.context?.close();
    stage.context = await stage.browser.newContext();
    stage.page = await stage.tab();
  };
  /** Closes the tab as a visitor does, in the middle of whatever it does, and opens another. */
  stage.visitAgain = async () => {
    await stage.page.close();
    stage.page = await stage.tab();
  };
  beforeEach(stage.renew);
  return stage;
}
