// The browser that the tests drive, and what of it is not the same in every browser. WebGPU runs on SwiftShader: right
// for correctness, never for speed.
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

const find = (name) => {
  try {
    return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
};

export const CHROMIUM = process.env.CHROMIUM ?? find("chromium") ?? find("google-chrome");
if (!CHROMIUM) throw new Error("no Chromium: run ./build.sh test, or name one in CHROMIUM");

export const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
];

/** A browser with a fresh profile. */
export const launch = (flags = []) => chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] });

/** Lets the origin of a page store so many bytes and no more. */
export async function limitStorage(page, bytes) {
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: bytes });
}
