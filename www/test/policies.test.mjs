// The package where something is forbidden or doubled: another origin, strict policies, sandboxed frames, extensions,
// several versions on a page, and no page at all.
import assert from "node:assert/strict";
import { appendFileSync, cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { CHROMIUM, FLAGS } from "./browser.mjs";
import {
  app,
  checkRuntime,
  filesIn,
  html,
  makeHost,
  openHosts,
  STRICT,
  serveHost,
  TEXT,
  VERSION,
  writeFiles,
} from "./hosts/host.mjs";
import { until } from "./until.mjs";

const hosts = await openHosts();
const folder = makeHost({});
const DIST = "./node_modules/gpt2-web/dist";
const OPEN = { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" };

/** Serves a page with these files beside the package. */
const serveWith = (files, headers) => {
  writeFiles(folder, files);
  return serveHost(folder, headers);
};

/** Both elements, whose outcome is what a person sees of them. */
const ELEMENTS = {
  "elements.html": html("./elements.js").replace(
    "<body>",
    '<body><textarea id="letter"></textarea><gpt2-autocomplete for="letter" delay="0"></gpt2-autocomplete>' +
      '<gpt2-generator device="wasm" max-new-tokens="8" greedy></gpt2-generator>',
  ),
  "elements.js": `import ${JSON.stringify(`${DIST}/elements.js`)};
const generator = document.querySelector("gpt2-generator");
const autocomplete = document.querySelector("gpt2-autocomplete");
const result = await generator.generate("The old king");
const letter = document.getElementById("letter");
letter.value = "The old king";
const suggested = new Promise((resolve) => autocomplete.addEventListener("gpt2-done", () => setTimeout(resolve)));
letter.dispatchEvent(new InputEvent("input"));
await suggested;
const style = (element, name) => getComputedStyle(element)[name];
window.outcome = {
  text: result?.text,
  suggestion: autocomplete.suggestion,
  button: style(generator.shadowRoot.querySelector("button"), "fontWeight"),
  ghost: style(autocomplete.shadowRoot.querySelector("[part=overlay]"), "position"),
  seen: style(autocomplete.shadowRoot.querySelector("[role=status]"), "width"),
};`,
};

async function checkElements(url) {
  const { page, errors } = await hosts.open(`${url}elements.html`);
  const { suggestion, ...seen } = await hosts.outcome(page);
  assert.deepEqual(errors, []);
  assert.notEqual(suggestion, "");
  assert.deepEqual(seen, { text: TEXT, button: "600", ghost: "absolute", seen: "1px" });
}

test("another origin, such as a CDN: threads too, where the page is isolated", async () => {
  const cdn = await serveHost(folder, OPEN);
  const { url } = await serveWith({
    "cdn.html": html("./cdn.js"),
    "cdn.js": app(new URL(`${DIST}/index.js`, cdn.url).href),
  });
  await hosts.writes(`${url}cdn.html`);
  assert.deepEqual(cdn.notFound, []);
});

test("a strict content security policy: threads, and both elements with their styles", async () => {
  const headers = { "Content-Security-Policy": `${STRICT}; img-src data:` };
  const { url } = await serveWith(
    { ...ELEMENTS, "index.html": html("./main.js"), "main.js": app(`${DIST}/index.js`) },
    headers,
  );
  await hosts.writes(url);
  await checkElements(url);
});

test("Trusted Types, with the policy gpt2-web alone", async () => {
  const policy = `${STRICT}; img-src data:; require-trusted-types-for 'script'; trusted-types gpt2-web`;
  const { url } = await serveWith(
    { ...ELEMENTS, "index.html": html("./main.js"), "main.js": app(`${DIST}/index.js`) },
    { "Content-Security-Policy": policy },
  );
  await hosts.writes(url);
  await checkElements(url);
});

test("Trusted Types that do not allow the policy: an error says so", async () => {
  const policy = "require-trusted-types-for 'script'; trusted-types 'none'";
  const { url } = await serveWith(
    { "index.html": html("./main.js"), "main.js": app(`${DIST}/index.js`) },
    { "Content-Security-Policy": policy },
  );
  const { page } = await hosts.open(url);
  const { code, message } = await hosts.outcome(page);
  assert.equal(code, "unsupported_environment");
  assert.match(message, /trusted-types gpt2-web/);
});

test("a sandboxed frame writes without a cache, and says that nothing is kept", async () => {
  const ask = `import { isCached, listModels, storageEstimate } from "${DIST}/index.js";
window.kept = [await isCached("demo"), await listModels(), await storageEstimate()];`;
  const { url } = await serveWith(
    {
      "outside.html": html("").replace("<body>", '<body><iframe sandbox="allow-scripts" src="sandbox.html"></iframe>'),
      "sandbox.html": html("./sandbox.js"),
      "sandbox.js": ask + app(`${DIST}/index.js`, "{}"),
    },
    OPEN,
  );
  const { page } = await hosts.open(`${url}outside.html`);
  await until("the frame is there", () => page.frames().length === 2);
  const result = await hosts.outcome(page.frames()[1]);
  assert.equal(result.text, TEXT, JSON.stringify(result));
  assert.match(result.info.warnings.join(), /not cached: IndexedDB cannot be used/);
  assert.deepEqual(await page.frames()[1].evaluate(() => window.kept), [false, [], { usage: 0, quota: 0 }]);
});

test("the full build, whose script the worker imports: from a CDN, under strict policies, in a sandboxed frame", {
  timeout: 300_000,
}, async () => {
  const onGpu = (from) => app(from, '{ device: "webgpu" }');
  const cdn = await serveHost(folder, OPEN);
  const { url: besideCdn } = await serveWith({
    "cdn.html": html("./cdn.js"),
    "cdn.js": onGpu(new URL(`${DIST}/index.js`, cdn.url).href),
  });
  await hosts.writes(`${besideCdn}cdn.html`, 1);
  const policy = `${STRICT}; img-src data:; require-trusted-types-for 'script'; trusted-types gpt2-web`;
  const { url: strict } = await serveWith(
    { "index.html": html("./main.js"), "main.js": onGpu(`${DIST}/index.js`) },
    { "Content-Security-Policy": policy },
  );
  await hosts.writes(strict, 1);
  const { url: outside } = await serveWith(
    {
      "outside.html": html("").replace("<body>", '<body><iframe sandbox="allow-scripts" src="sandbox.html"></iframe>'),
      "sandbox.html": html("./sandbox.js"),
      "sandbox.js": onGpu(`${DIST}/index.js`),
    },
    OPEN,
  );
  const { page } = await hosts.open(`${outside}outside.html`);
  await until("the frame is there", () => page.frames().length === 2);
  const result = await hosts.outcome(page.frames()[1]);
  assert.deepEqual([result.text, result.info?.device], [TEXT, "webgpu"], JSON.stringify(result));
});

test("the page of a Chrome extension (manifest version 3)", async () => {
  const extension = makeHost({ "index.html": html("./main.js"), "main.js": app(`${DIST}/index.js`, "{}") });
  const manifest = {
    manifest_version: 3,
    name: "host",
    version: "1",
    // What an extension's page may not do without: to compile WebAssembly.
    content_security_policy: { extension_pages: "script-src 'self' 'wasm-unsafe-eval'; object-src 'self'" },
    background: { service_worker: "background.js" },
  };
  writeFiles(extension, { "manifest.json": JSON.stringify(manifest), "background.js": "" });
  const context = await chromium.launchPersistentContext("", {
    executablePath: CHROMIUM,
    headless: false,
    args: [...FLAGS, "--headless=new", `--disable-extensions-except=${extension}`, `--load-extension=${extension}`],
  });
  try {
    await until("the extension runs", () => context.serviceWorkers().length > 0);
    const page = await context.newPage();
    await page.goto(new URL("/index.html", context.serviceWorkers()[0].url()).href);
    assert.equal((await hosts.outcome(page)).text, TEXT);
  } finally {
    await context.close();
  }
});

test("two versions of the package, and two generators of one, on a page", async () => {
  const next = path.join(folder, "next");
  cpSync(path.join(folder, DIST), next, { recursive: true });
  for (const file of filesIn(next).filter((file) => file.endsWith(".js"))) {
    const text = readFileSync(path.join(next, file), "utf8");
    writeFileSync(path.join(next, file), text.replaceAll(JSON.stringify(VERSION), '"next"'));
  }
  const { url } = await serveWith({
    "two.html": html("./two.js"),
    "two.js": `import * as first from "${DIST}/index.js";
import * as second from "./next/index.js";
await Promise.all([import("${DIST}/elements.js"), import("./next/elements.js")]);
const made = await Promise.all([first, first, second].map((it) => it.createGenerator("demo", { device: "wasm" })));
const writing = made.map((it) => it.complete("The old king", { max_new_tokens: 8, do_sample: false }));
const texts = (await Promise.all(writing)).map(({ text }) => text);
window.outcome = { texts, versions: [first.VERSION, second.VERSION], revisions: made.map((it) => it.info.revision) };`,
  });
  const { page, errors } = await hosts.open(`${url}two.html`);
  const { texts, versions, revisions } = await hosts.outcome(page);
  assert.deepEqual(errors, []);
  assert.deepEqual(texts, [TEXT, TEXT, TEXT]);
  assert.deepEqual(
    [versions, revisions],
    [
      [VERSION, "next"],
      [VERSION, VERSION, "next"],
    ],
  );
});

test("a file that is missing, or of another build, is an error that names it", async () => {
  const broken = makeHost({ "index.html": html("./main.js"), "main.js": app(`${DIST}/index.js`) });
  const { url } = await serveHost(broken);
  const fails = async () => hosts.outcome((await hosts.open(url)).page);
  const kernels = filesIn(path.join(broken, DIST)).filter((file) => file.startsWith("kernels"));
  for (const file of kernels) appendFileSync(path.join(broken, DIST, file), "\0");
  const changed = await fails();
  assert.equal(changed.code, "integrity", changed.message);
  assert.match(
    changed.message,
    /dist\/kernels\S*\.wasm: expected the module kernels\S*\.wasm .* found another content/,
  );
  rmSync(path.join(broken, DIST, "worker.js"));
  assert.match((await fails()).message, /its script could not be loaded \(is http:\S+\/dist\/worker\.js served\?/);
});

test("a wrong wasm_url is an error that names the file, and a right one is used", async () => {
  const { url } = await serveWith({
    "wrong.html": html("./wrong.js"),
    "wrong.js": app(`${DIST}/index.js`, '{ wasm_url: "/nowhere" }'),
    "right.html": html("./right.js"),
    "right.js": app(`${DIST}/index.js`, `{ threads: 2, wasm_url: (file) => "${DIST}/" + file }`),
  });
  const { page } = await hosts.open(`${url}wrong.html`);
  const { code, message } = await hosts.outcome(page);
  assert.equal(code, "network");
  assert.match(message, /\/nowhere\/\S+\.wasm: expected the module \S+ of this package, found HTTP status 404/);
  await hosts.writes(`${url}right.html`);
});

test("Node imports both entries, and is told why it cannot create a generator", () => {
  checkRuntime(folder, process.execPath, [], ["a page (`location`)", "workers (`Worker`)"]);
});
