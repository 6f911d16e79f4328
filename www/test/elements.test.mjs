// The custom elements as pages use them: in forms, with keys, before they are defined, and with a model that is there.
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { serve } from "../serve.mjs";
import { launch } from "./browser.mjs";
import { stop, WWW } from "./site.mjs";
import { until, untilInPage } from "./until.mjs";
import { openWatchedPage } from "./watched-page.mjs";

const PLAIN =
  "<!doctype html><html lang=en><meta charset=utf-8><title>plain</title><link rel=icon href='data:,'><body>";
const served = await serve(WWW, 0, (request, response) => {
  if (request.url !== "/plain.html") return false;
  response.setHeader("Content-Type", "text/html");
  response.end(PLAIN);
  return true;
});
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
await context.grantPermissions(["clipboard-read", "clipboard-write"]);
const { page, thrown } = await openWatchedPage(context);
after(async () => {
  await browser.close();
  await stop(served.server);
  assert.deepEqual(thrown, [], "errors that nobody caught");
});
beforeEach(() => page.goto(`${served.url}test/elements.html`));

/** Puts markup in the place of the page's. */
const show = (html) =>
  page.evaluate((html) => {
    document.body.innerHTML = html;
  }, html);
const get = (selector, name) =>
  page.evaluate(([selector, name]) => document.querySelector(selector)[name], [selector, name]);
const untilState = (selector, state) =>
  untilInPage(
    page,
    `${selector} is ${state}`,
    ([selector, state]) => document.querySelector(selector).state === state,
    [selector, state],
  );
const matchesState = (selector, state) =>
  page.evaluate(([selector, state]) => document.querySelector(selector).matches(`:state(${state})`), [selector, state]);
const suggestion = () => get("gpt2-autocomplete", "suggestion");
const untilSuggested = () => untilState("gpt2-autocomplete", "suggesting");

// --- gpt2-generator -------------------------------------------------------------------------------------------------

const WRITER = '<gpt2-generator device="wasm" max-new-tokens="8" greedy prompt="The old king"></gpt2-generator>';

test("generator: it writes, copies, writes another, and tells its state to style sheets", async () => {
  await show(WRITER);
  assert.equal(await matchesState("gpt2-generator", "idle"), true);
  await page.getByRole("button", { name: "Generate" }).click();
  await untilState("gpt2-generator", "ready");
  const text = await get("gpt2-generator", "text");
  assert.ok(text.length > 5, text);
  assert.equal(await matchesState("gpt2-generator", "ready"), true);
  assert.equal(await page.getAttribute("gpt2-generator", "state"), null, "it writes no attribute onto itself");
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `The old king${text}`);
  await page.evaluate(() => (document.querySelector("gpt2-generator").options = { do_sample: true, seed: 3 }));
  await page.getByRole("button", { name: "Another" }).click();
  await untilInPage(
    page,
    "another is written",
    (text) => {
      const { state, text: now } = document.querySelector("gpt2-generator");
      return state === "ready" && now !== text && now !== "";
    },
    text,
  );
});

test("generator: alternatives are one batch, and each can be shown", async () => {
  await show(
    '<gpt2-generator device="wasm" max-new-tokens="8" seed="5" alternatives="3" prompt="The old king"></gpt2-generator>',
  );
  const chunks = await page.evaluate(async () => {
    const generator = document.querySelector("gpt2-generator");
    const seen = new Set();
    generator.addEventListener("gpt2-chunk", ({ detail }) => seen.add(detail.index));
    await generator.generate();
    return [...seen].sort();
  });
  assert.deepEqual(chunks, [0, 1, 2]);
  const texts = await get("gpt2-generator", "texts");
  assert.equal(new Set(texts).size, 3, texts.join(" | "));
  assert.equal(await get("gpt2-generator", "text"), texts[0]);
  await page.getByRole("button", { name: "Next" }).click();
  assert.equal(await get("gpt2-generator", "text"), texts[1]);
  assert.ok((await page.locator("gpt2-generator").textContent()) !== null);
  const shown = await page.evaluate(
    () => document.querySelector("gpt2-generator").shadowRoot.querySelector("#completion").textContent,
  );
  assert.equal(shown, texts[1]);
  await page.getByRole("button", { name: "Previous" }).click();
  assert.equal(await page.getByRole("button", { name: "Previous" }).isDisabled(), true);
});

test("generator: in a form it has a name and a value, is disabled and reset with it", async () => {
  await show(`<form><fieldset>${WRITER.replace("<gpt2-generator", '<gpt2-generator name="story"')}</fieldset></form>`);
  const story = () => page.evaluate(() => new FormData(document.querySelector("form")).get("story"));
  assert.equal(await story(), "The old king");
  await page.evaluate(() => document.querySelector("gpt2-generator").generate());
  const text = await get("gpt2-generator", "text");
  assert.equal(await story(), `The old king${text}`);
  await page.evaluate(() => (document.querySelector("fieldset").disabled = true));
  assert.equal(await story(), null);
  assert.equal(await page.getByRole("button", { name: "Generate" }).isDisabled(), true);
  assert.equal(await page.evaluate(() => document.querySelector("gpt2-generator").generate()), null);
  await page.evaluate(() => (document.querySelector("fieldset").disabled = false));
  await page.getByRole("textbox").fill("Something else");
  await page.evaluate(() => document.querySelector("form").reset());
  assert.equal(await story(), "The old king");
  assert.equal(await get("gpt2-generator", "text"), "");
});

test("generator: prompt is followed until somebody types", async () => {
  await show(WRITER);
  await page.evaluate(() => document.querySelector("gpt2-generator").setAttribute("prompt", "The queen"));
  assert.equal(await get("gpt2-generator", "value"), "The queen");
  await page.getByRole("textbox").fill("Mine");
  await page.evaluate(() => document.querySelector("gpt2-generator").setAttribute("prompt", "The prince"));
  assert.equal(await get("gpt2-generator", "value"), "Mine");
});

test("properties that were set before an element was defined hold, and a generator that is there is used", async () => {
  await page.goto(`${served.url}plain.html`);
  const found = await page.evaluate(async () => {
    const { createGenerator } = await import("/dist/index.js");
    const model = await createGenerator("demo", { device: "wasm" });
    const [writer, surprise] = ["gpt2-generator", "gpt2-surprise"].map((tag) => document.createElement(tag));
    Object.assign(writer, {
      generator: model,
      value: "The old king",
      options: { max_new_tokens: 4, do_sample: false },
    });
    Object.assign(surprise, { generator: model, value: "The old king had a volcano.", mode: "bits" });
    document.body.append(writer, surprise);
    const scored = new Promise((resolve) => surprise.addEventListener("gpt2-scored", resolve, { once: true }));
    await import("/dist/elements.js");
    const result = await writer.generate();
    await scored;
    const own = ["generator", "value", "options"].filter((name) => Object.hasOwn(writer, name));
    writer.remove();
    surprise.remove();
    await new Promise((resolve) => setTimeout(resolve));
    const after = await model.complete("It still", { max_new_tokens: 2, do_sample: false });
    return { own, text: result.text, n: surprise.pieces.length, mode: surprise.mode, isAlive: after.token_ids.length };
  });
  assert.deepEqual(found.own, []);
  assert.ok(found.text.length > 2 && found.n > 5);
  assert.deepEqual([found.mode, found.isAlive], ["bits", 2], "the page's generator is not disposed of");
});

test("every text can be replaced", async () => {
  await show(`${WRITER}<gpt2-surprise device="wasm">The old king.</gpt2-surprise>`);
  await page.evaluate(() => {
    document.querySelector("gpt2-generator").messages = { generate: "Schreib", label: "Dein Anfang" };
    document.querySelector("gpt2-surprise").messages = { load: "Zeig es" };
  });
  assert.equal(await page.getByRole("button", { name: "Schreib" }).count(), 1);
  assert.equal(await page.getByLabel("Dein Anfang").inputValue(), "The old king");
  await page.getByRole("button", { name: "Zeig es" }).click();
  await untilState("gpt2-surprise", "ready");
});

test("generator: a failure is told in words, and Retry tries again", async () => {
  await show(WRITER.replace("<gpt2-generator", '<gpt2-generator model="/no-such-model/"'));
  await page.getByRole("button", { name: "Generate" }).click();
  await untilState("gpt2-generator", "failed");
  assert.match(await page.getByRole("alert").first().textContent(), /incomplete|could not be downloaded/);
  await page.evaluate(() => document.querySelector("gpt2-generator").setAttribute("model", "demo"));
  await page.evaluate(() => document.querySelector("gpt2-generator").generate());
  assert.equal(await get("gpt2-generator", "state"), "ready");
});

// --- gpt2-autocomplete ----------------------------------------------------------------------------------------------

const FIELD = '<textarea id="note" rows="4" cols="60"></textarea>';
const COMPLETE = '<gpt2-autocomplete for="note" device="wasm" delay="30"></gpt2-autocomplete>';

test("autocomplete: Tab takes all, Ctrl and the right arrow a word, Esc sends it away, and undo takes it back whole", async () => {
  await show(FIELD + COMPLETE);
  await page.click("#note");
  await page.keyboard.type("The old king");
  await untilSuggested();
  const whole = await suggestion();
  await page.keyboard.press("Control+ArrowRight");
  const word = (await page.inputValue("#note")).slice("The old king".length);
  assert.ok(whole.startsWith(word) && word.trim() !== "" && !/\S\s+\S/.test(word), `${word} of ${whole}`);
  await untilSuggested();
  const rest = await suggestion();
  await page.keyboard.press("Tab");
  assert.equal(await page.inputValue("#note"), `The old king${word}${rest}`);
  await page.keyboard.press("Control+z"); // a browser takes back together what was put in together
  assert.equal(await page.inputValue("#note"), "The old king");
  await page.keyboard.type(" and");
  await untilSuggested();
  await page.keyboard.press("Escape");
  assert.equal(await suggestion(), "");
  const before = await page.inputValue("#note");
  await page.keyboard.press("Tab");
  assert.equal(await page.inputValue("#note"), before, "Tab is the browser's where nothing is suggested");
  assert.notEqual(await page.evaluate(() => document.activeElement.id), "note");
});

test("autocomplete: to type what it says goes along with it and asks for nothing new", async () => {
  await show(FIELD + COMPLETE);
  await page.evaluate(() => {
    window.nDone = 0;
    document.addEventListener("gpt2-done", () => window.nDone++);
  });
  await page.click("#note");
  await page.keyboard.type("The old king");
  await untilSuggested();
  const whole = await suggestion();
  const nDone = await page.evaluate(() => window.nDone);
  for (let i = 1; i <= 3; i++) {
    await page.keyboard.type(whole[i - 1]);
    assert.equal(await suggestion(), whole.slice(i));
  }
  await page.waitForTimeout(200); // longer than the delay after which it would ask
  assert.equal(await page.evaluate(() => window.nDone), nDone);
  await page.keyboard.press("Tab");
  assert.equal(await page.inputValue("#note"), `The old king${whole}`);
});

test("autocomplete: Alt with ] and [ shows the next alternative and the one before", async () => {
  await show(FIELD + COMPLETE);
  await page.click("#note");
  await page.keyboard.type("Once upon a time there was");
  await untilSuggested();
  const first = await suggestion();
  await page.keyboard.press("Alt+BracketRight");
  await untilInPage(
    page,
    "another is suggested",
    (first) => {
      const { state, suggestion } = document.querySelector("gpt2-autocomplete");
      return state === "suggesting" && suggestion !== first;
    },
    first,
  );
  await page.keyboard.press("Alt+BracketLeft");
  assert.equal(await suggestion(), first);
});

for (const [what, field, read] of [
  ["an input", '<input id="note" size="60">', () => page.inputValue("#note")],
  [
    "contenteditable",
    '<div id="note" contenteditable style="width: 30em; min-height: 6em"></div>',
    () => page.textContent("#note"),
  ],
  [
    "a scaled textarea from right to left",
    `<div style="transform: scale(0.8); direction: rtl">${FIELD}</div>`,
    () => page.inputValue("#note"),
  ],
]) {
  test(`autocomplete: ${what}`, async () => {
    await show(field + COMPLETE);
    await page.click("#note");
    await page.keyboard.type("The old king");
    await untilSuggested();
    const text = await suggestion();
    const [ghost, box] = await page.evaluate(() => {
      const { left, right, top, bottom } = document
        .querySelector("gpt2-autocomplete")
        .shadowRoot.querySelector(".ghost")
        .getBoundingClientRect();
      const rect = document.querySelector("#note").getBoundingClientRect();
      return [
        [left, right, top, bottom],
        [rect.left, rect.right, rect.top, rect.bottom],
      ];
    });
    assert.ok(ghost[0] >= box[0] - 1 && ghost[2] >= box[2] - 1 && ghost[3] <= box[3] + 1, `${ghost} in ${box}`);
    await page.keyboard.press("Tab");
    assert.equal((await read()).replaceAll("\u00a0", " "), `The old king${text}`);
  });
}

test("autocomplete: a field that comes later, or is replaced, is found; maxlength and reset are minded", async () => {
  await show(`${COMPLETE}<form></form>`);
  await page.evaluate(() => {
    document.querySelector("form").innerHTML =
      '<textarea id="note" maxlength="16" writingsuggestions="true"></textarea>';
  });
  await page.click("#note");
  assert.equal(await page.getAttribute("#note", "writingsuggestions"), "false");
  await page.keyboard.type("The old king");
  await untilSuggested();
  assert.ok((await suggestion()).length <= 4);
  await page.evaluate(() => document.querySelector("form").reset());
  assert.equal(await suggestion(), "");
  await page.evaluate(() => {
    window.before = document.querySelector("#note");
    window.before.outerHTML = '<textarea id="note"></textarea>';
  });
  await until("the first field is let go", () =>
    page.evaluate(() => window.before.getAttribute("writingsuggestions") === "true"),
  );
  await page.click("#note");
  await page.keyboard.type("The old king");
  await untilSuggested();
  assert.ok((await suggestion()).length > 4);
});

test("autocomplete: an input method is left alone until its text is whole", async () => {
  await show(FIELD + COMPLETE);
  await page.click("#note");
  const session = await context.newCDPSession(page);
  await session.send("Input.imeSetComposition", { text: "The old", selectionStart: 7, selectionEnd: 7 });
  await page.waitForTimeout(150); // longer than the delay
  assert.equal(await suggestion(), "");
  assert.notEqual(await get("gpt2-autocomplete", "state"), "suggesting");
  await session.send("Input.insertText", { text: "The old king" });
  await untilSuggested();
});

test("autocomplete: it suggests at the end of any line, announces once, and can be told not to", async () => {
  await show(FIELD + COMPLETE);
  await page.fill("#note", "The old king\n\nand so on.");
  await page.evaluate(() => document.querySelector("#note").setSelectionRange(12, 12));
  await page.keyboard.type(" had");
  await untilSuggested();
  const said = () =>
    page.evaluate(
      () => document.querySelector("gpt2-autocomplete").shadowRoot.querySelector("[role=status]").textContent,
    );
  assert.match(await said(), /^Suggestion: .*Tab accepts/);
  await page.keyboard.press("Tab");
  assert.match(await page.inputValue("#note"), /^The old king had.+\n\nand so on\.$/);
  await page.evaluate(() => document.querySelector("gpt2-autocomplete").toggleAttribute("quiet", true));
  await page.keyboard.type(" and");
  await untilSuggested();
  assert.equal(await said(), "");
});

test("autocomplete: on a touch screen a chip takes it", async () => {
  const phone = await browser.newContext({ viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true });
  const tab = await phone.newPage();
  await tab.goto(`${served.url}test/elements.html`);
  await tab.tap("#note");
  await tab.keyboard.type("The old king");
  await tab.waitForFunction(() => document.querySelector("gpt2-autocomplete").state === "suggesting");
  const text = await tab.evaluate(() => document.querySelector("gpt2-autocomplete").suggestion);
  await tab.locator("gpt2-autocomplete button").tap();
  assert.equal(await tab.inputValue("#note"), `The old king${text}`);
  assert.equal(await tab.evaluate(() => document.activeElement.id), "note", "the keyboard stays open");
  await phone.close();
});

// --- gpt2-surprise --------------------------------------------------------------------------------------------------

test("surprise: its own text, a button that loads, keys, and a failure", async () => {
  await show('<gpt2-surprise device="wasm">The old king had a volcano.</gpt2-surprise>');
  await page.getByRole("button", { name: /surprises/ }).click();
  await untilState("gpt2-surprise", "ready");
  const pieces = await get("gpt2-surprise", "pieces");
  assert.equal(pieces.map(({ text }) => text).join(""), "The old king had a volcano.");
  await page.evaluate(() => {
    window.chosen = [];
    document.addEventListener("gpt2-select", ({ detail }) => window.chosen.push(detail.stretch));
  });
  await page.getByRole("listbox").focus();
  await page.keyboard.press("End");
  await page.keyboard.press("Shift+ArrowLeft");
  const last = pieces.length - 1;
  assert.deepEqual(await page.evaluate(() => window.chosen), [
    [last, last],
    [last - 1, last],
  ]);
  assert.equal(await page.getByRole("option", { selected: true }).count(), 2);
  await show('<gpt2-surprise model="/no-such-model/" preload>The old king.</gpt2-surprise>');
  await untilState("gpt2-surprise", "failed");
  assert.match(
    await page.locator("gpt2-surprise").evaluate((it) => it.shadowRoot.querySelector("#note").textContent),
    /\w/,
  );
});

test("surprise: text that changes is read anew, and the newest wins", async () => {
  await show('<gpt2-surprise device="wasm" preload>The old king.</gpt2-surprise>');
  await untilState("gpt2-surprise", "ready");
  const last = await page.evaluate(async () => {
    const surprise = document.querySelector("gpt2-surprise");
    const told = [];
    surprise.addEventListener("gpt2-scored", ({ detail }) => told.push(detail.pieces.map(({ text }) => text).join("")));
    for (const text of ["The old queen.", "The old queen had.", "A fox."]) surprise.value = text;
    await surprise.score();
    return { told, shown: surprise.pieces.map(({ text }) => text).join("") };
  });
  assert.equal(last.shown, "A fox.");
  assert.equal(last.told.at(-1), "A fox.");
});

test("each part of the elements is legible in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await show(
      `${WRITER}<gpt2-surprise device="wasm">The old king had a zyzzyva.</gpt2-surprise>
      <style>:root { color-scheme: light dark; }</style>`,
    );
    await page.evaluate(() => document.querySelector("gpt2-generator").generate());
    await page.evaluate(() => document.querySelector("gpt2-surprise").score());
    await untilState("gpt2-surprise", "ready");
    await page.evaluate(() => document.querySelector("gpt2-surprise").choose(3));
    const found = await page.evaluate(() => {
      const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
      /** Colours one over the other, the last on top, as red, green and blue. */
      const seen = (...colours) => {
        context.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
        }
        return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
      };
      const luminance = (rgb) => {
        const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const grounds = (element) => {
        const above = [];
        for (let at = element; at; at = at.assignedSlot ?? at.parentElement ?? at.getRootNode().host)
          above.unshift(getComputedStyle(at).backgroundColor);
        const page = document.createElement("div"); // a canvas knows no colour scheme
        page.style.background = "Canvas";
        document.body.append(page);
        const ground = getComputedStyle(page).backgroundColor;
        page.remove();
        return [ground, ...above];
      };
      return [...document.querySelectorAll("gpt2-generator, gpt2-surprise")].flatMap((host) =>
        [...host.shadowRoot.querySelectorAll("*")]
          .filter((it) => it.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
          .filter((it) => [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ""))
          .filter((it) => it.tagName !== "STYLE" && !it.disabled && it.getBoundingClientRect().width > 2)
          .map((it) => {
            const under = grounds(it);
            const [a, b] = [seen(...under, getComputedStyle(it).color), seen(...under)].map(luminance);
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return [`${host.localName} ${it.localName}.${it.className || it.id}`, ratio];
          }),
      );
    });
    assert.ok(found.length > 12, `${found.length} texts`);
    assert.deepEqual(
      found.filter(([, ratio]) => ratio < 4.5),
      [],
      colorScheme,
    );
  }
  await page.emulateMedia({ colorScheme: null });
});
