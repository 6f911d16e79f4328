// A host: a folder with an app that has the packed package in its node_modules, as `npm install` leaves it there.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";
import { serve } from "../../serve.mjs";
import { launch } from "../browser.mjs";
import { stop, WWW } from "../site.mjs";
import { until } from "../until.mjs";

export const { version: VERSION } = JSON.parse(readFileSync(path.join(WWW, "package.json"), "utf8"));
const TARBALL = path.join(WWW, `../dist/gpt2-web-${VERSION}.tgz`);

/** A module that loads the demo model and writes; `window.outcome` is the text and what is known of the generator. */
export const app = (from = "gpt2-web", options = "{ threads: 2 }") => `import { createGenerator } from "${from}";
try {
  const generator = await createGenerator("demo", { device: "wasm", ...${options} });
  const { text } = await generator.complete("The old king", { max_new_tokens: 8, do_sample: false });
  window.outcome = { text, info: generator.info };
} catch (error) {
  window.outcome = { name: error.name, code: error.code, message: error.message };
}
`;

export const html = (script, head = "") =>
  `<!doctype html><meta charset="utf-8"><title>host</title><link rel="icon" href="data:,">${head}
<body>${script === "" ? "" : `<script type="module" src="${script}"></script>`}`;

/** Makes the folder of a host with `files` (paths to texts) and the package, until the tests are over. */
export function makeHost(files) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-host-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  writeFiles(folder, { "package.json": '{ "name": "host", "private": true, "type": "module" }', ...files });
  // The package has no dependencies, so that nothing is asked of a registry.
  const install = ["install", "--offline", "--no-audit", "--no-fund", "--no-package-lock", "--silent", TARBALL];
  execFileSync("npm", install, { cwd: folder });
  return folder;
}

export function writeFiles(folder, files) {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    writeFileSync(path.join(folder, file), text);
  }
}

/** The files below a folder, as paths from there. */
export const filesIn = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));

/** Fails unless a build holds each WebAssembly module and the model's weights once, and no file twice. */
export function checkEmitted(folder) {
  const byContent = new Map();
  const sizes = { ".wasm": 0, ".safetensors": 0 };
  for (const file of filesIn(folder)) {
    const digest = createHash("sha256")
      .update(readFileSync(path.join(folder, file)))
      .digest("hex");
    assert.ok(!byContent.has(digest), `${file} and ${byContent.get(digest)} have the same content`);
    byContent.set(digest, file);
    if (path.extname(file) in sizes) sizes[path.extname(file)] += 1;
  }
  assert.deepEqual(sizes, { ".wasm": 6, ".safetensors": 1 });
}

/** The files of an example, without the list of what npm would fetch for it. */
export function exampleFiles(name) {
  const folder = path.join(WWW, "../examples", name);
  const files = filesIn(folder).filter((file) => file !== "package.json" && !file.startsWith("node_modules"));
  return Object.fromEntries(files.map((file) => [file, readFileSync(path.join(folder, file), "utf8")]));
}

/** What a runtime without pages is asked: to import both entries, and to create a generator. */
const SERVER = `import { createGenerator, listModels } from "gpt2-web";
import "gpt2-web/elements";
const error = await createGenerator("demo").catch((error) => error);
console.log(JSON.stringify([error.name, error.code, error.missing, await listModels()]));
`;

/** Fails unless a runtime imports both entries and is told what is missing there. `command` gets a script's path. */
export function checkRuntime(folder, command, args, lacks) {
  writeFiles(folder, { "server.mjs": SERVER });
  const said = execFileSync(command, [...args, "server.mjs"], { cwd: folder, encoding: "utf8" });
  assert.deepEqual(JSON.parse(said), ["UnsupportedEnvironmentError", "unsupported_environment", lacks, []]);
}

/** A policy that forbids whatever is not the page's own. */
export const STRICT = `default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; worker-src 'self'`;

/** Serves a folder until the tests are over. `headers` are sent with each answer. → its URL, and paths not found */
export async function serveHost(folder, headers = {}) {
  const notFound = [];
  const { server, url } = await serve(folder, 0, (request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.on("finish", () => response.statusCode === 404 && notFound.push(request.url));
    return false;
  });
  after(() => stop(server));
  return { url, notFound };
}

/** A browser until the tests are over, in which pages are opened with a fresh profile. */
export async function openHosts(flags = []) {
  const browser = await launch(flags);
  after(() => browser.close());
  /** Opens a page. → the page, and the errors that nobody caught and the console's in `errors` */
  const open = async (url) => {
    const page = await (await browser.newContext()).newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(url);
    return { page, errors };
  };
  /** What a page's {@link app} came to. `where` is a page or a frame. */
  const outcome = async (where) => {
    await until("the app is done", () => where.evaluate(() => window.outcome !== undefined));
    return where.evaluate(() => window.outcome);
  };
  /** Opens a page whose app must write the demo model's text, with so many threads and no warning. → the page */
  const writes = async (url, threads = 2) => {
    const { page, errors } = await open(url);
    const result = await outcome(page);
    assert.equal(result.text, TEXT, `${JSON.stringify(result)}\n${errors.join("\n")}`);
    assert.deepEqual(errors, []);
    assert.deepEqual([result.info.threads, ...result.info.warnings], [threads]);
    return page;
  };
  return { open, outcome, writes };
}

/** What the demo model writes after "The old king" in 8 tokens. */
export const TEXT = " was very much surprised at this speech,";
