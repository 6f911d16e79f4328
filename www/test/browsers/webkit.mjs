// WebKitGTK, driven through its WebDriver, on a display of its own that nobody sees.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Builder, Key } from "selenium-webdriver";
import portprober from "selenium-webdriver/net/portprober.js";
import remote from "selenium-webdriver/remote/index.js";

export const needs = { WEBKIT_DRIVER: ["WebKitWebDriver"], XVFB: ["Xvfb"] };

/**
 * WebKitGTK 2.50 shares no memory between threads, also in pages that are isolated, unless this variable is set; Safari
 * does, by the same code. So it stands for Safari with the variable, and without it is a browser that cannot share.
 */
const SHARING = { JSC_useSharedArrayBuffer: "1" };

/** Starts an X server. → its process, and the display that it has chosen */
async function startDisplay(XVFB, log) {
  const args = ["-displayfd", "3", "-screen", "0", "1200x900x24", "-nolisten", "tcp"];
  const server = spawn(XVFB, args, { stdio: ["ignore", log.fd, log.fd, "pipe"] });
  const ended = once(server, "exit").then(([status]) => {
    throw new Error(`${XVFB}: expected the number of a display, found exit status ${status}`);
  });
  const [number] = await Promise.race([once(server.stdio[3], "data"), ended]);
  return { server, display: `:${String(number).trim()}` };
}

/** Calls a function, given as its source, and hands on what comes of it. Runs in the page. */
function call(source, argument, done) {
  Promise.resolve(argument)
    .then(new Function(`return (${source})`)())
    .then(
      (value) => done({ value }),
      (error) => done({ error: `${error}\n${error?.stack}` }),
    );
}

/** Keeps what the page says from now on, since this driver does not tell. Runs in the page. */
function listen() {
  window.said = [];
  const keep = (kind) => (first) => window.said.push(`${kind}: ${first?.stack ? `${first}\n${first.stack}` : first}\n`);
  for (const kind of ["log", "warn", "error"]) {
    const original = console[kind];
    console[kind] = (...all) => {
      keep(`console.${kind}`)(all.join(" "));
      original.apply(console, all);
    };
  }
  addEventListener("error", (event) => keep("error")(event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => keep("rejection")(event.reason));
}

/** @type {import("./open.mjs").Open} */
export async function open({ WEBKIT_DRIVER, XVFB }, log, { canShare = true } = {}) {
  const { server, display } = await startDisplay(XVFB, log);
  let service;
  let driver;
  const close = async () => {
    await driver?.quit();
    await service?.kill();
    server.kill();
  };
  try {
    const port = await portprober.findFreePort();
    service = new remote.DriverService(WEBKIT_DRIVER, {
      loopback: true,
      port,
      args: [`--port=${port}`],
      env: { ...process.env, DISPLAY: display, ...(canShare ? SHARING : {}) },
      stdio: ["ignore", log.fd, log.fd],
    });
    driver = await new Builder()
      .disableEnvironmentOverrides()
      .usingServer(await service.start())
      .withCapabilities({ browserName: "MiniBrowser" })
      .build();
    await driver.manage().setTimeouts({ script: 120_000, pageLoad: 120_000 });
  } catch (error) {
    await close();
    throw error;
  }
  const capabilities = await driver.getCapabilities();
  const type = (keys) => driver.actions().sendKeys(keys).perform();
  return {
    version: `WebKitGTK ${capabilities.getBrowserVersion()}`,
    async goto(url) {
      await driver.get(url);
      await driver.executeScript(listen);
    },
    async evaluate(body, argument) {
      const { value, error } = await driver.executeAsyncScript(call, body.toString(), argument);
      if (error !== undefined) throw new Error(error);
      return value;
    },
    click: (x, y) => driver.actions().move({ x, y }).click().perform(),
    type,
    press: (key) => type(Key[key.toUpperCase()]),
    async screenshot(path) {
      log.write((await driver.executeScript("return window.said ?? []")).join(""));
      writeFileSync(path, await driver.takeScreenshot(), "base64");
    },
    close,
  };
}
