// The page's service worker: a visit without a network, deploys that come whole or not at all, slow networks.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { drawIcons } from "../icons.mjs";
import { serve } from "../serve.mjs";
import { writeServiceWorker } from "../service-worker.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { until, untilInPage } from "./until.mjs";

const browser = await launch();
after(() => browser.close());

const NAMES = ["index.html", "dist/early.js", "dist/late.js", "dist/optional.js"];
/** A page under a folder of its own; each of its files says of which build it is. */
const builds = (build) => ({
  "index.html": `<!doctype html><meta charset="utf-8"><title>${build}</title><link rel="icon" href="data:,">
<script type="module" src="./dist/early.js"></script>`,
  "dist/early.js": `window.early = ${build}; navigator.serviceWorker.register("./sw.js", { updateViaCache: "none" });`,
  "dist/late.js": `export const late = ${build};`,
  "dist/optional.js": `export const optional = ${build};`,
});

/**
 * Serves the page at `/some/where/`. `deploy(n)` puts a build there. `hooks.intercept(path, response)` may answer first.
 * `requests` are the paths from the page's folder that were asked for.
 */
async function openPage(t) {
  const root = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-offline-"));
  const folder = path.join(root, "some/where");
  const hooks = { intercept: () => false };
  const requests = [];
  const deploy = async (build) => {
    for (const [name, text] of Object.entries(builds(build))) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), text);
    }
    return writeServiceWorker(folder, NAMES, ["dist/optional.js"]);
  };
  const first = await deploy(1);
  const { server, url } = await serve(root, 0, (request, response) => {
    const name = request.url.replace("/some/where/", "");
    requests.push(name);
    return hooks.intercept(name, response);
  });
  const context = await browser.newContext();
  t.after(async () => {
    await context.close();
    await stop(server);
    rmSync(root, { recursive: true, force: true });
  });
  const address = `${url}some/where/`;
  /** Opens the page in a tab, or reloads it there. → the builds of its parts, the last of which comes late */
  const visit = async (page) => {
    if (page.url() === address) await page.reload();
    else await page.goto(address);
    return parts(page);
  };
  const parts = async (page) => {
    await untilInPage(page, "the page runs", () => window.early !== undefined);
    return page.evaluate(async () => {
      const { late } = await import(new URL("dist/late.js", location.href).href);
      return [Number(document.title), window.early, late];
    });
  };
  const page = await context.newPage();
  assert.deepEqual(await visit(page), [1, 1, 1]);
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  const cacheNames = (tab = page) => tab.evaluate(() => caches.keys());
  assert.deepEqual(await cacheNames(), [`gpt2-web-page-${first}`]);
  return { page, context, visit, parts, cacheNames, deploy, hooks, requests, server };
}

/** Sends an answer of which a part is missing. */
function cut(response) {
  response.writeHead(200, { "Content-Type": "text/javascript", "Content-Length": 1000 });
  response.write("export const late =", () => response.destroy());
  return true;
}

test("after one visit it opens without a network, with or without a query", async (t) => {
  const { page, context, visit, server } = await openPage(t);
  await stop(server);
  await context.setOffline(true);
  assert.deepEqual(await visit(page), [1, 1, 1]);
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  await page.goto(`${page.url()}?prompt=secret`);
  assert.equal(await page.title(), "1");
  const kept = await page.evaluate(async () => {
    const caches_ = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
    return (await Promise.all(caches_.map((cache) => cache.keys()))).flat().map(({ url }) => url);
  });
  assert.equal(kept.length, NAMES.length - 1, "all but the optional file");
  assert.ok(!kept.some((url) => url.includes("secret")), "a prompt is kept nowhere");
});

/** Visits until a build opens. A browser may hold an update back for some seconds; no visit may mix builds meanwhile. */
async function untilOpens(build, visit) {
  await until(`build ${build} opens`, async () => {
    const [title, early, late] = await visit();
    assert.deepEqual([early, late], [title, title]);
    return title === build;
  });
}

test("what only some visitors need is kept when it is used, and then with each build", async (t) => {
  const { page, context, visit, deploy, requests, server } = await openPage(t);
  assert.ok(!requests.includes("dist/optional.js"), "not fetched ahead");
  const useIt = () =>
    page.evaluate(async () => (await import(new URL("dist/optional.js", location.href).href)).optional);
  await visit(page);
  assert.equal(await useIt(), 1);
  await deploy(2);
  await untilOpens(2, () => visit(page));
  await stop(server);
  await context.setOffline(true);
  assert.deepEqual(await visit(page), [2, 2, 2]);
  assert.equal(await useIt(), 2);
});

test("a deploy opens whole, and the old build is dropped", async (t) => {
  const { page, visit, cacheNames, deploy, requests } = await openPage(t);
  await visit(page);
  requests.length = 0;
  const second = await deploy(2);
  await untilOpens(2, () => visit(page));
  await until("the old build is dropped", async () => (await cacheNames()).length === 1);
  assert.deepEqual(await cacheNames(), [`gpt2-web-page-${second}`]);
  requests.length = 0;
  assert.deepEqual(await visit(page), [2, 2, 2]);
  assert.deepEqual(new Set(requests), new Set(["sw.js"]), "only news are asked for");
});

test("a page that is open keeps its build; the next one opens when it is closed", async (t) => {
  const { page, context, visit, parts, deploy } = await openPage(t);
  await visit(page);
  await deploy(2);
  const other = await context.newPage();
  assert.deepEqual(await visit(other), [1, 1, 1]);
  await until("the new build is complete", () =>
    other.evaluate(() => navigator.serviceWorker.getRegistration().then(({ waiting }) => waiting !== null)),
  );
  assert.deepEqual(await visit(other), [1, 1, 1], "a page of the old build is still open");
  assert.deepEqual(await parts(page), [1, 1, 1]);
  await page.close();
  await untilOpens(2, () => visit(other));
});

for (const [what, breakIt] of [
  ["is refused", (response) => Boolean(response.writeHead(503).end())],
  ["is cut", cut],
  ["is still of the old build", (response) => Boolean(response.writeHead(200).end(builds(1)["dist/late.js"]))],
]) {
  test(`while a file of the new build ${what} the old build works, offline too`, async (t) => {
    const { page, context, visit, cacheNames, deploy, hooks, requests } = await openPage(t);
    await visit(page);
    const second = await deploy(2);
    hooks.intercept = (name, response) => name === "dist/late.js" && breakIt(response);
    requests.length = 0;
    assert.deepEqual(await visit(page), [1, 1, 1]);
    await until("the new build was tried", () => requests.includes("dist/late.js"));
    await context.setOffline(true);
    assert.deepEqual(await visit(page), [1, 1, 1]);
    await context.setOffline(false);
    hooks.intercept = () => false;
    await page.close(); // the browser looks for a new build by itself
    const later = await context.newPage();
    await untilOpens(2, () => visit(later));
    await until("one build is kept", async () => (await cacheNames(later)).join() === `gpt2-web-page-${second}`);
  });
}

test("where the network does not answer in time, the build that is kept opens", async (t) => {
  const { page, visit, deploy, hooks } = await openPage(t);
  await visit(page);
  await deploy(2);
  const held = [];
  hooks.intercept = (_name, response) => Boolean(held.push(response)); // nothing is ever answered
  assert.deepEqual(await visit(page), [1, 1, 1]);
  assert.ok(held.length > 0, "the network was asked");
  hooks.intercept = () => false;
  for (const response of held) response.destroy();
  await untilOpens(2, () => visit(page));
});

test("the page can be installed: its manifest and icons are there, of the sizes that they tell", async (t) => {
  const served = await serve(WWW);
  t.after(() => stop(served.server));
  const page = await browser.newPage();
  await page.goto(served.url);
  const session = await page.context().newCDPSession(page);
  const { errors, manifest } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  assert.equal(manifest.display, "kStandalone");
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  const inPrivate = "in-incognito"; // the profile of a test is one
  assert.deepEqual(
    installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== inPrivate),
    [],
  );
  const { icons } = JSON.parse(readFileSync(path.join(WWW, "manifest.webmanifest"), "utf8"));
  for (const { src, sizes, type } of icons) {
    if (type !== "image/png") continue;
    const png = readFileSync(path.join(WWW, src));
    assert.equal(`${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`, sizes, src);
  }
  await page.close();
});

test("the same drawing gives the same bytes", async () => {
  const read = (names) => names.map((name) => readFileSync(path.join(WWW, name)).toString("hex"));
  const before = read(["icons/180.png", "icons/192.png", "icons/512.png", "icons/maskable-512.png"]);
  assert.deepEqual(read(await drawIcons()), before);
});
