// Firefox, driven over WebDriver BiDi.
import puppeteer from "puppeteer-core";

export const needs = { FIREFOX: ["firefox-esr", "firefox", "/Applications/Firefox.app/Contents/MacOS/firefox"] };

/** @type {import("./open.mjs").Open} */
export async function open({ FIREFOX }, log) {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: FIREFOX,
    protocolTimeout: 120_000,
    defaultViewport: null,
    args: ["--width=1200", "--height=900"],
  });
  browser.process().stderr.on("data", (text) => log.write(text));
  const [page] = await browser.pages();
  page.on("console", (message) => log.write(`console.${message.type()}: ${message.text()}\n`));
  page.on("pageerror", (error) => log.write(`${error.stack}\n`));
  return {
    version: await browser.version(),
    goto: async (url) => void (await page.goto(url)),
    evaluate: (body, argument) => page.evaluate(body, argument),
    click: (x, y) => page.mouse.click(x, y),
    type: (text) => page.keyboard.type(text),
    press: (key) => page.keyboard.press(key),
    screenshot: async (path) => void (await page.screenshot({ path })),
    close: () => browser.close(),
  };
}
