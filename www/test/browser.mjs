// The browser that the tests drive, and what of it is not the same in every browser. WebGPU runs on SwiftShader: right
// for correctness, never for speed.
import { spawnSync } from "node:child_process";
import { chromium } from "playwright-core";

/** The first of these programs that is there. */
export function findProgram(names) {
  const script = 'for name; do command -v "$name"; done';
  const { stdout } = spawnSync("sh", ["-c", script, "sh", ...names], { encoding: "utf8" });
  return stdout.split("\n")[0] || undefined;
}

export const CHROMIUM = process.env.CHROMIUM ?? findProgram(["chromium", "google-chrome"]);
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
