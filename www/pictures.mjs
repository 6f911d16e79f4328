// Takes the README's pictures of the page, in docs/: `node pictures.mjs`. The moving one needs `img2webp` (Debian: webp).
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "./serve.mjs";
import { launch } from "./test/browser.mjs";

const WWW = path.dirname(fileURLToPath(import.meta.url));
const DOCS = path.join(WWW, "../docs");
const { server, url } = await serve(WWW);
const browser = await launch();

/** A fresh visit of a view, when its model is ready. */
async function visit(view, { width = 1280, height = 800, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  await page.goto(`${url}?view=${view}`);
  await page.waitForFunction(() => document.documentElement.dataset.state === "ready");
  return page;
}
const set = (page, id, value) =>
  page.evaluate(
    ([id, value]) => {
      const control = document.getElementById(id);
      control.value = value;
      control.dispatchEvent(new Event("change", { bubbles: true }));
    },
    [id, value],
  );
const written = (page) =>
  page.waitForFunction(() => /reached|ended|full/.test(document.querySelector("#outcome").textContent));

for (const colorScheme of ["light", "dark"]) {
  const look = await visit("look", { height: 760, colorScheme });
  await look.waitForFunction(() => document.querySelector("#surprise").state === "ready");
  const place = await look.evaluate(() =>
    document.querySelector("#surprise").pieces.findIndex(({ text }) => text === " sun"),
  );
  await look.evaluate((place) => document.querySelector("#surprise").choose(place), place);
  await look.waitForSelector("#attention:not([hidden])");
  await look.screenshot({ path: path.join(DOCS, `page-look-${colorScheme}.png`) });
  await look.context().close();

  const learn = await visit("learn", { height: 1330, colorScheme });
  await learn.click("#learn-example");
  await learn.waitForFunction(() => /step/.test(document.querySelector("#learn-cost").textContent));
  await learn.click("#learn-start");
  await learn.waitForSelector("#learn-ended:not([hidden])", { timeout: 180_000 });
  await learn.evaluate(() => (document.querySelector("#learn-text").style.height = "9rem"));
  await learn.mouse.move(0, 0);
  await learn.screenshot({ path: path.join(DOCS, `page-learn-${colorScheme}.png`) });
  await learn.context().close();

  const speed = await visit("speed", { height: 860, colorScheme });
  await speed.click("#measure");
  await speed.waitForFunction(() => document.querySelector("#measure-status").dataset.state === "ready");
  await speed.mouse.move(0, 0);
  await speed.screenshot({ path: path.join(DOCS, `page-speed-${colorScheme}.png`) });
  await speed.context().close();
}

// Write, moving: typing, a suggestion that is taken, the model going on, three ways of which one is taken, rivals.
const page = await visit("write", { width: 960, height: 640 });
const folder = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-"));
const frames = [];
/** One picture, shown for so many milliseconds. */
const frame = async (ms) => {
  const file = path.join(folder, `${frames.length}.png`);
  await page.screenshot({ path: file });
  frames.push({ file, ms });
};
await set(page, "seed", "11");
await set(page, "max_new_tokens", "40");
await page.fill("#text", "");
await page.focus("#text");
for (const piece of ["Once", " upon", " a", " time", " there", " lived", " a", " king"]) {
  await page.keyboard.type(piece);
  await frame(120);
}
await page.waitForFunction(() => document.querySelector("#ghost").state === "suggesting");
await frame(1200);
await page.keyboard.press("Tab");
await frame(700);
// The demo model writes faster than pictures are taken, so its text is shown piece by piece.
await page.keyboard.press("Control+Enter");
await written(page);
await frame(1500);
await page.keyboard.press("Control+Shift+Enter");
await page.waitForFunction(() => document.querySelector("#ways").ariaBusy === "false");
await page.evaluate(() => Promise.all(document.getAnimations().map((it) => it.finished)));
await frame(1300);
await page.keyboard.press("ArrowRight");
await frame(900);
await page.keyboard.press("Enter");
await frame(1100);
await page.evaluate(() => {
  const area = document.querySelector("#text");
  const place = area.value.indexOf(" ", area.value.length - 40) + 2;
  area.setSelectionRange(place, place);
  area.dispatchEvent(new MouseEvent("click", { bubbles: true }));
});
await page.waitForFunction(() => /had|less likely/.test(document.querySelector("#rivals-remark").textContent));
await page.evaluate(() => Promise.all(document.getAnimations().map((it) => it.finished)));
await frame(2500);
const files = frames.flatMap(({ file, ms }) => ["-d", String(ms), file]);
execFileSync("img2webp", [
  "-loop",
  "0",
  "-lossy",
  "-q",
  "70",
  "-m",
  "6",
  ...files,
  "-o",
  path.join(DOCS, "page-write.webp"),
]);
rmSync(folder, { recursive: true });

await browser.close();
server.closeAllConnections();
server.close();
