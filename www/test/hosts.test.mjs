// The package as people build pages with it: each app is built by the real bundler from the packed package, served,
// opened in a real browser and made to write. The largest hosts are in hosts/heavy.test.mjs.
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import {
  app,
  checkEmitted,
  exampleFiles,
  filesIn,
  html,
  makeHost,
  openHosts,
  STRICT,
  serveHost,
  writeFiles,
} from "./hosts/host.mjs";
import { WWW } from "./site.mjs";
import { untilInPage } from "./until.mjs";

/** A bundler of hosts/package.json. */
const load = (name) => import(createRequire(path.join(WWW, "test/hosts/")).resolve(name));
const hosts = await openHosts();
const PAGE = { "index.html": html("./main.js"), "main.js": app() };

test("static files, no bundler", async () => {
  const folder = makeHost({ "index.html": html("./main.js"), "main.js": app("./node_modules/gpt2-web/dist/index.js") });
  const { url, notFound } = await serveHost(folder);
  await hosts.writes(url);
  assert.deepEqual(notFound, []);
});

test("Vite: build, under a strict policy", async () => {
  const { build } = await load("vite");
  const folder = makeHost(PAGE);
  await build({ root: folder, logLevel: "error", build: { target: "es2022" } });
  const headers = { "Content-Security-Policy": `${STRICT}; img-src data:` };
  const { url, notFound } = await serveHost(path.join(folder, "dist"), headers);
  checkEmitted(path.join(folder, "dist"));
  await hosts.writes(url);
  assert.deepEqual(notFound, []);
});

test("Vite: the development server", async () => {
  const { createServer } = await load("vite");
  const folder = makeHost({ ...PAGE, "main.js": app("gpt2-web", "{}") });
  const server = await createServer({
    root: folder,
    logLevel: "error",
    server: { port: 0, host: "127.0.0.1" },
  });
  after(() => server.close());
  await server.listen();
  await hosts.writes(`http://localhost:${server.httpServer.address().port}/`, 1);
});

test("webpack 5", async () => {
  const { default: webpack } = await load("webpack");
  const folder = makeHost({ "src/index.js": app() });
  const dist = path.join(folder, "dist");
  const stats = await new Promise((resolve, reject) => {
    const config = { mode: "production", context: folder, output: { path: dist } };
    webpack({ ...config, performance: false }, (error, stats) => (error ? reject(error) : resolve(stats)));
  });
  assert.equal(stats.hasErrors(), false, stats.toString());
  checkEmitted(dist);
  writeFiles(dist, { "index.html": html("./main.js") });
  const { url, notFound } = await serveHost(dist);
  await hosts.writes(url);
  assert.deepEqual(notFound, []);
});

test("Rollup", async () => {
  const { rollup } = await load("rollup");
  const { nodeResolve } = await load("@rollup/plugin-node-resolve");
  const { importMetaAssets } = await load("@web/rollup-plugin-import-meta-assets");
  const folder = makeHost(PAGE);
  const bundle = await rollup({ input: path.join(folder, "main.js"), plugins: [nodeResolve(), importMetaAssets()] });
  const dist = path.join(folder, "dist");
  await bundle.write({ dir: dist, format: "es" });
  checkEmitted(dist);
  writeFiles(dist, { "index.html": html("./main.js") });
  const { url, notFound } = await serveHost(dist);
  await hosts.writes(url);
  assert.deepEqual(notFound, []);
});

test("esbuild, and the package's files copied beside the bundle", async () => {
  const { build } = await load("esbuild");
  const folder = makeHost(PAGE);
  const dist = path.join(folder, "dist");
  const from = path.join(folder, "node_modules/gpt2-web/dist");
  await build({ entryPoints: [path.join(folder, "main.js")], outdir: dist, bundle: true, format: "esm" });
  for (const file of filesIn(from)) {
    const isAsset = /^(kernels|gpt2_web).*\.wasm$|^demo\/|^(worker|kernel-thread|hash-thread|gpt2_web_full)\.js$/.test(
      file,
    );
    if (isAsset) cpSync(path.join(from, file), path.join(dist, file));
  }
  checkEmitted(dist);
  writeFiles(dist, { "index.html": html("./main.js") });
  const { url, notFound } = await serveHost(dist);
  await hosts.writes(url);
  assert.deepEqual(notFound, []);
});

test("the examples without a bundler and with Vite write when they are told to", async () => {
  const { build } = await load("vite");
  const plain = makeHost(exampleFiles("plain"));
  const vite = makeHost(exampleFiles("vite"));
  await build({ root: vite, logLevel: "error" });
  for (const folder of [plain, path.join(vite, "dist")]) {
    const { page, errors } = await hosts.open((await serveHost(folder)).url);
    await page.click("#write");
    await untilInPage(page, "there is more text", () => document.getElementById("text").textContent.length > 50);
    assert.deepEqual(errors, []);
  }
});
