// The page end to end: it loads, types, streams, stops, reloads, works offline, and tells errors in words.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { safetensors } from "./safetensors.mjs";
import { site, stop, WWW } from "./site.mjs";
import { until, untilInPage } from "./until.mjs";
import { openWatchedPage, untilOffline } from "./watched-page.mjs";

const VIEWS = ["write", "look", "speed", "models"];
const models = await site();
let served = await serve(WWW);
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const { page, thrown, state, stateAfter, shot } = await openWatchedPage(context);
after(async () => {
  await browser.close();
  await stop(served.server);
  await models.close();
  assert.deepEqual(thrown, [], "errors that nobody caught");
});

/** A run clears the outcome when it starts and says why it ended when it ends. */
const finished = () =>
  untilInPage(page, "a text has ended", () =>
    /stopped|ended|reached|full/.test(document.querySelector("#outcome").textContent),
  );
const text = () => page.inputValue("#text");
/** What stands in the model's ink, which the space before it has no part in. */
const byModel = () => page.$$eval("#mirror .by-model", (all) => all.map((it) => it.textContent).join(""));
/** Replaces the text, as somebody types it. */
const type = async (words) => {
  await page.fill("#text", "");
  await page.type("#text", words);
};
/** Sets a control of the drawer, which need not be open. */
const set = (id, value) =>
  page.evaluate(
    ([id, value]) => {
      const control = document.getElementById(id);
      if (control.type === "checkbox") control.checked = value;
      else control.value = value;
      control.dispatchEvent(new Event("input", { bubbles: true }));
      control.dispatchEvent(new Event("change", { bubbles: true }));
    },
    [id, value],
  );
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
  assert.equal(await page.isVisible("#text"), true);
});

test("the model goes on where the caret is, piece by piece, in its own ink", async () => {
  await set("suggest", false);
  await set("max_new_tokens", "3000"); // many frames' worth: the page shows what came once a frame
  await set("context_overflow", "slide");
  // By chance the model ends its text early; another seed is then taken.
  for (let seed = 1; seed < 20; seed++) {
    await set("seed", String(seed));
    await type("The old king");
    await page.evaluate(() => {
      window.pieces = [];
      const mirror = document.querySelector("#mirror");
      new MutationObserver(() => window.pieces.push(mirror.textContent.length)).observe(mirror, { childList: true });
    });
    await page.press("#text", "Control+Enter");
    await finished();
    if ((await text()).length > 3000) break;
  }
  assert.ok((await page.evaluate(() => window.pieces.length)) > 5, "it grows piece by piece");
  assert.equal((await text()).slice("The old king".length).trimStart(), await byModel());
  assert.ok((await byModel()).length > 100);
  assert.match(await page.textContent("#outcome"), /tokens\/s/);
  await page.press("#text", "Control+z");
  assert.equal(await text(), "The old king");
  await set("max_new_tokens", "20");
  await page.evaluate(() => document.querySelector("#text").setSelectionRange(3, 3));
  await page.press("#text", "Control+Enter");
  await finished();
  const middle = await text();
  assert.ok(middle.startsWith("The") && middle.endsWith(" old king") && middle.length > 13, middle);
  await shot("written");
});

test("the same seed writes the same text again", async () => {
  await set("seed", "7");
  const write = async () => {
    await type("The old king");
    await page.click("#generate");
    await finished();
    return text();
  };
  const first = await write();
  assert.equal(await write(), first);
  await set("seed", "8");
  assert.notEqual(await write(), first);
});

test("stop is heard after thousands of tokens as after the first, and keeps the text", async () => {
  // some thousand take the demo model no longer than a test takes to press a button
  await set("max_new_tokens", "50000");
  const isStopped = async (seed) => {
    await set("seed", String(seed));
    await type("The old king");
    await page.click("#generate");
    await untilInPage(page, "the text is long, or has ended", () => {
      const isLong = document.querySelector("#text").value.length >= 10_000;
      if (!isLong && !/ended/.test(document.querySelector("#outcome").textContent)) return false;
      document.querySelector("#stop").click();
      window.stoppedMs = performance.now();
      return true;
    });
    await finished();
    return (await text()).length >= 10_000;
  };
  // by chance the model ends its text earlier
  let seed = 8;
  while (!(await isStopped(seed))) assert.ok(++seed < 40, "a text of some thousand tokens");
  const waitedMs = await page.evaluate(() => performance.now() - window.stoppedMs);
  const stopped = await text();
  assert.ok(waitedMs < 1000, `${waitedMs} ms`); // what has come is shown once a frame, so the page is never behind
  assert.match(await page.textContent("#outcome"), /stopped by you/);
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  assert.equal(await text(), stopped, "nothing comes after stop");
});

test("a tab in the background goes on, and has caught up when it is looked at", async () => {
  await page.evaluate(() => {
    window.frames0 = window.requestAnimationFrame;
    window.requestAnimationFrame = () => 1; // a hidden tab has no frames
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
  });
  await set("max_new_tokens", "400");
  await set("context_overflow", "slide");
  await page.evaluate(() => {
    window.lengths = [];
    const note = () => window.lengths.push(document.querySelector("#text").value.length);
    new MutationObserver(note).observe(document.querySelector("#mirror"), { childList: true });
  });
  // By chance the model ends its text early; another seed is then taken.
  for (let seed = 3; seed < 20; seed++) {
    await set("seed", String(seed));
    await type("The old king");
    await page.evaluate(() => (window.lengths = []));
    await page.click("#generate");
    await finished();
    if ((await text()).length > 1000) break;
  }
  const lengths = await page.evaluate(() => window.lengths);
  assert.ok(lengths.length > 3, `it was shown ${lengths.length} times`);
  await page.evaluate(() => {
    window.requestAnimationFrame = window.frames0;
    delete document.hidden;
  });
  assert.ok((await text()).length > 500);
});

test("three ways on: arrows choose one, the others are branches, and each can be opened", async () => {
  await set("max_new_tokens", "50");
  await set("seed", "1");
  await type("Once upon a time");
  await page.press("#text", "Control+Shift+Enter");
  await untilInPage(
    page,
    "three ways are written",
    () =>
      document.querySelectorAll(".way:not(:empty)").length === 3 &&
      document.querySelector("#ways").ariaBusy === "false",
  );
  const ways = await page.$$eval(".way", (all) => all.map((it) => it.textContent));
  assert.equal(new Set(ways).size, 3);
  await shot("three-ways");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  const continued = (way) => new RegExp(`^Once upon a time\\s?${way.replace(/[^\w\s]/g, "\\$&")}$`);
  assert.match(await text(), continued(ways[1]));
  assert.equal(await page.isVisible("#alternatives"), false);
  await page.click("#branches-button");
  const names = await page.$$eval(".branch .open", (all) => all.map((it) => it.textContent));
  const starts = (way) => names.some((name) => name.startsWith(way.trim().replace(/\s+/g, " ").slice(0, 30)));
  assert.ok(ways.every(starts), names.join(" | "));
  await shot("branches");
  const third = ways[2].trim().replace(/\s+/g, " ").slice(0, 30);
  await page.locator(".branch .open", { hasText: third }).first().click();
  assert.match(await text(), continued(ways[2]));
  await page.locator(".branch:has(.open[aria-current]) .link").click();
  await page.keyboard.type("the third");
  await page.keyboard.press("Enter");
  assert.equal(await page.textContent(".branch .open[aria-current]"), "the third");
  await page.keyboard.press("Escape");
  await page.click("#undo");
  assert.match(await text(), continued(ways[1]), "undo goes back from a branch");
  await page.click("#redo");
});

test("a pressed word opens its rivals, and one of them begins a branch", async () => {
  const before = await text();
  await page.focus("#text");
  await page.evaluate(() => document.querySelector("#text").setSelectionRange(20, 20));
  await page.keyboard.press("Alt+Enter");
  await untilInPage(page, "the rivals are there", () =>
    /had|less likely/.test(document.querySelector("#rivals-remark").textContent),
  );
  await shot("rivals");
  const rivals = await page.$$eval("#rivals-list button", (all) =>
    all.map((it) => [it.children[0].textContent, it.children[1].textContent, it.ariaCurrent]),
  );
  assert.ok(rivals.length >= 3, JSON.stringify(rivals));
  for (const [word, share] of rivals) {
    assert.ok(word !== "" && !word.includes("\ufffd"), word);
    assert.match(share, /^(< )?[\d.]+ ?%$/);
  }
  const other = rivals.findIndex(([, , isIt]) => isIt !== "true");
  await page.locator("#rivals-list button").nth(other).click();
  await finished();
  const after = await text();
  assert.notEqual(after, before);
  assert.ok(after.includes(rivals[other][0]), after);
  await page.press("#text", "Control+z");
  await page.press("#text", "Control+z");
  assert.equal(await text(), before, "the branch before is not lost");
});

test("a pause suggests, to type along advances it, Tab takes it in the model's ink, and one undo takes it back", async () => {
  await set("suggest", true);
  await type("The old king");
  await untilInPage(page, "a suggestion is whole", () => document.querySelector("#ghost").state === "suggesting");
  const suggestion = await page.evaluate(() => document.querySelector("#ghost").suggestion);
  await shot("suggestion");
  await page.keyboard.type(suggestion.slice(0, 2));
  assert.equal(await page.evaluate(() => document.querySelector("#ghost").suggestion), suggestion.slice(2));
  await page.keyboard.press("Tab");
  assert.equal(await text(), `The old king${suggestion}`);
  assert.equal(await byModel(), suggestion.slice(2).trimStart());
  await page.keyboard.press("Control+z");
  assert.equal(await text(), `The old king${suggestion.slice(0, 2)}`);
  await set("suggest", false);
});

test("presets set the controls, and a link carries text and settings", async () => {
  await page.click("#settings-button");
  await page.click("#presets [value=wild]");
  assert.equal(await page.inputValue("#temperature"), "1.3");
  assert.equal(await page.getAttribute("#presets [value=wild]", "aria-pressed"), "true");
  await shot("settings");
  await page.keyboard.press("Escape");
  assert.equal(await page.isVisible("#settings"), false);
  await type("A linked beginning");
  await page.click("#link");
  await untilInPage(page, "the link is copied", () => document.querySelector("#link").textContent === "Copied");
  const link = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(!new URL(link).search.includes("linked"), "no server sees the text");
  await page.click("#settings-button");
  await page.click("#presets [value=balanced]");
  await page.click("#settings-close");
  await type("Something else");
  await page.goto("about:blank");
  await page.goto(link);
  await state("ready");
  await untilInPage(
    page,
    "the link's text is there",
    () => document.querySelector("#text").value === "A linked beginning",
  );
  assert.equal(await page.inputValue("#temperature"), "1.3");
  await page.press("#text", "Control+z");
  assert.equal(await text(), "Something else", "what was there before is not lost");
});

test("a reload keeps the text, its branches and the settings", async () => {
  await type("The king came home");
  await page.click("#branches-button");
  const branches = () => page.$$eval(".branch .open", (all) => all.map((it) => it.textContent));
  const before = await branches();
  await page.reload();
  await state("ready");
  await untilInPage(page, "the text is back", () => document.querySelector("#text").value === "The king came home");
  await page.click("#branches-button");
  assert.deepEqual(await branches(), before);
  assert.equal(await page.inputValue("#temperature"), "1.3");
});

test("the tree goes to a file and comes back from it", async () => {
  const [saved] = await Promise.all([page.waitForEvent("download"), page.click("#export")]);
  const file = await saved.path();
  const tree = JSON.parse(readFileSync(file, "utf8"));
  assert.equal(tree.format, "gpt2-web-text");
  assert.ok(
    tree.versions.some(({ recipe }) => recipe?.model === "demo"),
    "recipes are in it",
  );
  await page.click("#forget");
  assert.equal(await text(), "");
  assert.equal(await page.locator(".branch").count(), 1);
  await page.setInputFiles("#import", {
    name: "x.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify(tree)),
  });
  await untilInPage(page, "the tree is back", () => document.querySelector("#text").value === "The king came home");
  await page.setInputFiles("#import", { name: "bad.json", mimeType: "application/json", buffer: Buffer.from("[1]") });
  await page.waitForSelector("#error:not([hidden])");
  assert.match(await page.textContent("#error"), /bad\.json: the file is no exported text/);
  await page.click("#error-dismiss");
});

test("it opens and writes without a network", async () => {
  await untilOffline(page);
  await stop(served.server); // there is nobody there any more
  await context.setOffline(true);
  await page.reload();
  await state("ready");
  await set("max_new_tokens", "10");
  await type("The old king");
  await page.click("#generate");
  await finished();
  assert.ok((await byModel()).length > 0);
  for (const view of VIEWS) {
    await open(view);
    await page.waitForSelector(`#view-${view} h1`);
  }
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
    () => document.querySelector("gpt2-autocomplete").state === "suggesting",
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
