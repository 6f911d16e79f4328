// The browser that the tests drive. WebGPU runs on SwiftShader: right for correctness, never for speed.
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
  "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader",
];

/** A browser with a fresh profile. */
export const launch = (flags = []) => chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] });
