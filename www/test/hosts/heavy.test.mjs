// The hosts that take long to install or to build: `./build.sh test hosts`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { WWW } from "../site.mjs";
import { app, checkEmitted, checkRuntime, exampleFiles, makeHost, openHosts, serveHost } from "./host.mjs";

const MODULES = path.join(WWW, "test/hosts/heavy/node_modules");
assert.ok(existsSync(MODULES), `${MODULES} is missing: run ./build.sh test hosts`);
const bin = (name) => path.join(MODULES, ".bin", name);

/** An app of Next.js: a page in which a client component writes. */
const NEXT = {
  "app/layout.js": `export const metadata = { icons: "data:," };
export default ({ children }) => <html><body>{children}</body></html>;`,
  "app/page.js": 'import Writer from "./writer.js";\nexport default () => <Writer />;',
  "app/writer.js": `"use client";
import { useEffect } from "react";
import { write } from "./write.js";
export default () => { useEffect(() => void write(), []); return <p>A page</p>; };`,
  "app/write.js": `import "gpt2-web/elements";
${app("gpt2-web", "{}").replace("try {", "export async function write() { try {")}}`,
  "next.config.mjs": `export default { turbopack: { root: "/" } };`,
};

for (const bundler of ["--turbopack", "--webpack"]) {
  test(`Next.js, app router, ${bundler.slice(2)}`, { timeout: 300_000 }, async () => {
    const folder = makeHost(NEXT);
    for (const name of ["next", "react", "react-dom"]) {
      symlinkSync(path.join(MODULES, name), path.join(folder, "node_modules", name));
    }
    const options = { cwd: folder, env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1" } };
    execFileSync(bin("next"), ["build", bundler], { ...options, stdio: "pipe" });
    checkEmitted(path.join(folder, ".next/static/media"));
    const server = spawn(bin("next"), ["start", "--port", "0"], options);
    after(() => server.kill());
    const url = await new Promise((resolve, reject) => {
      let said = "";
      server.on("exit", () => reject(new Error(said)));
      server.stdout.on("data", (bytes) => {
        said += bytes;
        const [found] = /http:\/\/localhost:\d+/.exec(said) ?? [];
        if (found) resolve(found);
      });
    });
    await (await openHosts()).writes(url, 1);
  });
}

test("the example with React: grey text in a form, which Tab accepts", async () => {
  const { build } = await import(createRequire(path.join(WWW, "test/hosts/")).resolve("vite"));
  const folder = makeHost(exampleFiles("form"));
  for (const name of ["react", "react-dom"]) {
    symlinkSync(path.join(MODULES, name), path.join(folder, "node_modules", name));
  }
  await build({ root: folder, logLevel: "error" });
  const { page, errors } = await (await openHosts()).open((await serveHost(path.join(folder, "dist"))).url);
  await page.type("#letter", "The old king");
  const isSuggesting = () => document.querySelector("gpt2-autocomplete").state === "suggesting";
  await page.waitForFunction(isSuggesting, null, { timeout: 60_000 });
  await page.press("#letter", "Tab");
  const written = await page.inputValue("#letter");
  assert.match(written, /^The old king./);
  await page.click("button");
  assert.equal(await page.textContent("output"), written);
  assert.deepEqual(errors, []);
});

const folder = makeHost({});

test("Deno imports both entries, and is told why it cannot create a generator", () => {
  checkRuntime(folder, bin("deno"), ["run", "--node-modules-dir=manual", "--allow-read"], ["a page (`location`)"]);
});

test("Bun imports both entries, and is told why it cannot create a generator", () => {
  checkRuntime(folder, bin("bun"), ["run"], ["a page (`location`)"]);
});
