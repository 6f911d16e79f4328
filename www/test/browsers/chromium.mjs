// Chromium, driven over its own protocol, as in the rest of the tests.
import { CHROMIUM, launch } from "../browser.mjs";

export const needs = { CHROMIUM: [CHROMIUM] };

/** @type {import("./open.mjs").Open} */
export async function open(_, log) {
  const browser = await launch();
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  page.on("console", (message) => log.write(`console.${message.type()}: ${message.text()}\n`));
  page.on("pageerror", (error) => log.write(`${error.stack}\n`));
  return {
    version: `Chromium ${browser.version()}`,
    goto: async (url) => void (await page.goto(url)),
    evaluate: (body, argument) => page.evaluate(body, argument),
    click: (x, y) => page.mouse.click(x, y),
    type: (text) => page.keyboard.type(text),
    press: (key) => page.keyboard.press(key),
    screenshot: async (path) => void (await page.screenshot({ path })),
    close: () => browser.close(),
  };
}
