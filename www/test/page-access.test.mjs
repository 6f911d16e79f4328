// Everybody can use the page: axe in every view, all by keyboard, and what each view's script weighs.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { brotliCompressSync } from "node:zlib";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { until, untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const AXE = readFileSync(path.join(WWW, "node_modules/axe-core/axe.min.js"), "utf8");
const served = await serve(WWW);
const browser = await launch();
const { page, thrown, state } = await openWatchedPage(
  await browser.newContext({ viewport: { width: 1280, height: 900 } }),
);
after(async () => {
  await browser.close();
  await stop(served.server);
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

/** What axe finds, as lines of text. */
async function violations() {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${impact} ${id}: ${target.flat().join(" ")}: ${failureSummary}`),
  );
}
const focused = () =>
  page.evaluate(() => {
    let element = document.activeElement;
    while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    return element.id;
  });
/** Presses Tab until the element with this id has the focus. */
const tabTo = async (id, key = "Tab") => {
  let n = 0;
  await until(`Tab comes to #${id}`, async () => {
    await page.keyboard.press(key);
    assert.ok(++n < 60, `#${id} is not reached by the keyboard`);
    return (await focused()) === id;
  });
};

/** What makes each view look as it does in use. */
const SCENES = {
  write: async () => {
    await page.focus("#text");
    await page.keyboard.press("Control+Enter");
    await untilInPage(page, "a text is there", () =>
      /reached|ended/.test(document.querySelector("#outcome").textContent),
    );
    await page.keyboard.press("Control+Shift+Enter");
    await untilInPage(page, "three ways are written", () => document.querySelectorAll(".way:not(:empty)").length === 3);
  },
  look: async () => {
    await untilInPage(page, "the text is read", () => document.querySelector("#surprise").state === "ready");
    await page.evaluate(() => document.querySelector("#surprise").choose(9));
    await page.waitForSelector("#attention:not([hidden])");
  },
  learn: async () => {
    await page.click("#learn-example");
    await page.waitForSelector("#learn-start:enabled");
    await page.click("#learn-start");
    await untilInPage(page, "it learns", () => /^step/.test(document.querySelector("#learn-told").textContent));
    await page.click("#learn-stop");
    await page.waitForSelector("#learn-ended:not([hidden])");
  },
  speed: async () => page.waitForSelector("#measure:enabled"),
  models: async () => page.waitForSelector("#stored-models li"),
};

for (const colorScheme of ["light", "dark"]) {
  for (const [view, prepare] of Object.entries(SCENES)) {
    test(`axe finds nothing in ${view}, ${colorScheme}`, async () => {
      await page.emulateMedia({ colorScheme });
      await page.goto(`${served.url}?view=${view}`);
      await state("ready");
      await prepare();
      assert.deepEqual(await violations(), []);
    });
  }
}

test("axe finds nothing where a load fails, and in the drawers", async () => {
  await page.goto(`${served.url}?view=models`);
  await state("ready");
  await page.fill("#model", `${served.url}no-such-model/`);
  await page.click("#load");
  await page.waitForSelector("#estimate:not([hidden])"); // it tells the problem, and lets one try
  assert.deepEqual(await violations(), []);
  await page.click("#fetch");
  await page.waitForSelector("#error:not([hidden])");
  assert.deepEqual(await violations(), []);
  await page.goto(`${served.url}?view=write`);
  await state("ready");
  for (const drawer of ["branches", "settings"]) {
    await page.click(`#${drawer}-button`);
    await page.waitForSelector(`#${drawer}:not([hidden])`);
    await page.evaluate(() => Promise.all(document.getAnimations().map((it) => it.finished)));
    assert.deepEqual(await violations(), []);
  }
});

test("all of Write is done with the keyboard", async () => {
  await page.goto(`${served.url}?view=write`);
  await state("ready");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  await tabTo("text");
  await page.keyboard.press("Escape"); // Tab then leaves the field also where something is suggested
  await tabTo("generate");
  await page.keyboard.press("Enter");
  await untilInPage(page, "a text is there", () =>
    /reached|ended/.test(document.querySelector("#outcome").textContent),
  );
  await tabTo("settings-button");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid", "the focus is visible");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "settings");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "settings-button", "the focus goes back to where it came from");
});

test("all of Look is done with the keyboard, and a screen reader hears it", async () => {
  await page.goto(`${served.url}?view=look`);
  await SCENES.look();
  await page.focus("#look-numbers");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "text", "the list of tokens");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  const told = () =>
    page.evaluate(() => document.querySelector("#surprise").shadowRoot.querySelector("#announcer").textContent);
  assert.match(await told(), /bits? · .*likel/);
  await page.keyboard.press("Shift+End");
  await untilInPage(page, "a stretch has figures", () =>
    /Chosen/.test(document.querySelector("#sums-head").textContent),
  );
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.querySelector("#surprise").stretch), null);
  assert.doesNotMatch(await page.textContent("#sums-head"), /Chosen/);
});

test("nothing moves for those who want it so, and high contrast keeps what colours say", async () => {
  await page.emulateMedia({ reducedMotion: "reduce", forcedColors: "active" });
  await page.goto(`${served.url}?view=write`);
  await state("ready");
  await page.click("#settings-button");
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await page.keyboard.press("Escape");
  await page.click("#generate");
  // The words are drawn anew in each frame, so they are looked at where they are found.
  await untilInPage(page, "the model's words have a line", () => {
    const words = document.querySelector("#mirror .by-model");
    return words && getComputedStyle(words).borderBottomStyle === "solid";
  });
  await page.emulateMedia({ reducedMotion: null, forcedColors: null });
});

test("nothing moves while a view comes up and its model loads", async () => {
  for (const width of [360, 1280]) {
    for (const view of ["write", "look", "speed", "models"]) {
      const fresh = await browser.newContext({ viewport: { width, height: 800 } });
      const tab = await fresh.newPage();
      await tab.addInitScript(() => {
        window.moved = 0;
        const add = (list) => {
          for (const { value } of list.getEntries()) window.moved += value;
        };
        new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
      });
      await tab.goto(`${served.url}?view=${view}`);
      await tab.waitForFunction(() => document.documentElement.dataset.state === "ready");
      if (view === "look") await tab.waitForFunction(() => document.querySelector("#surprise").state === "ready");
      const moved = await tab.evaluate(() => window.moved);
      assert.ok(moved < 0.1, `${view} at ${width}: a shift of ${moved}, of which 0.1 is called good`);
      await fresh.close();
    }
  }
});

/** Most bytes, as brotli sends them, of the page's own scripts and styles. Whoever makes it less lowers a number. */
const BUDGETS = { first: 23_900, write: 26_000, look: 20_600, learn: 19_000, speed: 30_000, models: 5_000 };

test("the page's own scripts and styles are small, and a view's come when it is opened", () => {
  const dist = path.join(WWW, "dist");
  const bytes = (files) =>
    files.reduce((sum, file) => sum + brotliCompressSync(readFileSync(path.join(dist, file))).length, 0);
  const files = readdirSync(dist).filter((file) => /^page.*\.(js|css)$/.test(file));
  const importsOf = (file) =>
    [...readFileSync(path.join(dist, file), "utf8").matchAll(/(?:from|import)"\.\/([\w-]+\.js)"/g)].map(
      ([, name]) => name,
    );
  const closure = (file, found = new Set()) => {
    if (found.has(file)) return found;
    found.add(file);
    for (const next of importsOf(file)) closure(next, found);
    return found;
  };
  const first = closure("page.js");
  const sizes = { first: bytes([...first, "page.css"]) };
  for (const view of ["write", "look", "learn", "speed", "models"]) {
    const entry = files.find((file) => file.startsWith(`page-${view}-`));
    assert.ok(entry, `${view} has a script of its own`);
    assert.ok(!first.has(entry), `${view} is not fetched before it is opened`);
    sizes[view] = bytes([...closure(entry)].filter((file) => !first.has(file)));
  }
  const isWithin = Object.entries(sizes).every(([part, size]) => size <= BUDGETS[part]);
  assert.ok(isWithin, `${JSON.stringify(sizes)} bytes, of at most ${JSON.stringify(BUDGETS)}`);
});
