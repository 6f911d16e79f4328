// What loading takes, from a checkpoint on localhost: `./build.sh bench load [options]`.
//
//   --model FOLDER   the checkpoint (default: the peers' one, $PEERS_DATA/models/gpt2)
//   --dtype LIST     number formats (q8)
//   --device NAME    wasm or webgpu (wasm)
//   --reps N         warm starts, of which the best counts (2)
//   --no-converted   leave out the same model as `gpt2-web convert` packs it
//   --no-peers       leave transformers.js and wllama out, which otherwise run beside us if harness.mjs finds them
//
// Cold: a new profile. Warm: a new browser process on the same one. Ready is counted from the start of the navigation,
// memory after a first token; both as the peers' driver does, which drives the browser by its debugger. That keeps a
// part of what is fetched, so ours is measured once more with no debugger attached, as a visitor's browser has none.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { serve } from "../serve.mjs";
import { CHROMIUM, FLAGS } from "../test/browser.mjs";
import { CHECKPOINT, runHarness, WWW, whyNoHarness } from "./harness.mjs";
import { watchRenderers } from "./renderer.mjs";

const { values } = parseArgs({
  allowNegative: true,
  options: {
    model: { type: "string", default: CHECKPOINT },
    dtype: { type: "string", default: "q8" },
    device: { type: "string", default: "wasm" },
    reps: { type: "string", default: "2" },
    converted: { type: "boolean", default: true },
    peers: { type: "boolean", default: true },
  },
});
if (!values.model || !existsSync(path.join(values.model, "config.json"))) {
  console.error(
    `no checkpoint in ${values.model ?? "--model, which is not given"}: name a folder with --model, or PEERS_DATA`,
  );
  process.exit(1);
}
const dtypes = values.dtype.split(",");

const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/**
 * Serves a folder, an empty page and one with the script `alone`; counts what goes over the wire. `told` is called with
 * what a page posts.
 */
async function counted(folder) {
  const it = { bytes: 0, alone: "", told: () => {} };
  const { server, url } = await serve(path.resolve(folder), 0, (request, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Cross-Origin-Resource-Policy", "cross-origin");
    const write = response.write.bind(response);
    response.write = (chunk, ...rest) => {
      it.bytes += chunk.length;
      return write(chunk, ...rest);
    };
    if (request.method === "POST") {
      request.setEncoding("utf8");
      request.on("data", (json) => it.told(JSON.parse(json)));
      response.writeHead(204).end();
      return true;
    }
    if (request.url !== "/blank.html" && request.url !== "/alone.html") return false;
    response.writeHead(200, { "Content-Type": "text/html", ...ISOLATED });
    const script = request.url === "/alone.html" ? `<script type="module">${it.alone}</script>` : "";
    response.end(`<!doctype html><title>bench</title>${script}`);
    return true;
  });
  return Object.assign(it, { server, url });
}

/** A page that loads a model and writes a token; answers when it is ready. */
const loader = (dtype) => `
  const tell = (answer) => fetch("/", { method: "POST", body: JSON.stringify(answer) });
  try {
    const { createGenerator } = await import("/dist/index.js");
    const options = ${JSON.stringify({ dtype, device: values.device, threads: 1 })};
    globalThis.generator = await createGenerator(${JSON.stringify(model.url)}, options);
    const readyMs = performance.now();
    await generator.complete([464, 1468, 582], { max_new_tokens: 1 });
    await tell({ readyMs });
  } catch (error) {
    await tell({ error: String(error) });
  }`;

/** One visit in a browser that nobody drives. */
async function visitAlone(profile, dtype) {
  code.alone = loader(dtype);
  const answer = new Promise((resolve) => (code.told = resolve));
  const flags = ["--headless=new", ...FLAGS, `--user-data-dir=${profile}`, `${code.url}alone.html`];
  const browser = spawn(CHROMIUM, flags, { stdio: "ignore" });
  const ended = once(browser, "exit").then(
    ([code]) => ({ error: `the browser ended with ${code}` }),
    (error) => ({ error: `${CHROMIUM}: ${error.message}` }),
  );
  const memory = watchRenderers(profile);
  try {
    const late = wait(300_000, { error: "no answer in five minutes" }, { ref: false });
    const { error, ...told } = await Promise.race([answer, ended, late]);
    if (error) throw new Error(error);
    const { peakMb } = memory.read();
    await wait(3000); // as below
    return { ...told, peakMb, settledMb: memory.read().nowMb };
  } finally {
    memory.stop();
    browser.kill();
    await ended;
    await wait(500); // its other processes may still write to the profile
  }
}

/** Cold and warm without a debugger. */
async function measureAlone(dtype, name = "gpt2-web, no debugger") {
  const profile = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-load-"));
  try {
    return {
      name,
      dtype,
      cold: await visitAlone(profile, dtype),
      warm: await visitAlone(profile, dtype),
    };
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 300 });
  }
}

/** One visit in a browser of its own. */
async function visit(profile, dtype) {
  code.bytes = model.bytes = 0;
  const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, args: FLAGS });
  let memory;
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    await page.goto(`${code.url}blank.html`);
    memory = watchRenderers(profile);
    const { readyMs, info } = await page.evaluate(
      async ({ entry, model, ...options }) => {
        const { createGenerator } = await import(entry);
        window.generator = await createGenerator(model, options);
        return { readyMs: performance.now(), info: generator.info };
      },
      { entry: `${code.url}dist/index.js`, model: model.url, dtype, device: values.device, threads: 1 },
    );
    await page.evaluate(() => generator.complete([464, 1468, 582], { max_new_tokens: 1 }));
    const fetched = { codeBytes: code.bytes, modelBytes: model.bytes };
    const { peakMb } = memory.read();
    await page.waitForTimeout(3000); // what was deleted is given back when the browser gets round to it
    const settledMb = memory.read().nowMb;
    const storedBytes = await page.evaluate(async () => (await navigator.storage.estimate()).usage);
    return { readyMs, info, ...fetched, peakMb, settledMb, storedBytes };
  } finally {
    memory?.stop();
    await context.close();
  }
}

async function measure(dtype) {
  const profile = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-load-"));
  try {
    const cold = await visit(profile, dtype);
    const warm = [];
    for (let i = 0; i < Number(values.reps); i++) warm.push(await visit(profile, dtype));
    const best = warm.toSorted((a, b) => a.readyMs - b.readyMs)[0];
    for (const warning of cold.info.warnings) console.log(`${dtype}: ${warning}`);
    return { name: "gpt2-web", dtype, cold, warm: best };
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 300 });
  }
}

/** The same model, converted beforehand. */
async function measureConverted(dtype) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-converted-"));
  const { url } = model;
  const args = ["convert", path.resolve(values.model), "--dtype", dtype, "--out", folder];
  execFileSync(process.execPath, [path.join(WWW, "dist/cli.js"), ...args], { stdio: ["ignore", "ignore", "inherit"] });
  const converted = await counted(folder);
  model.url = converted.url;
  try {
    const measured = await measureAlone(dtype, "gpt2-web, converted beforehand");
    // Two visits have fetched it once, since the second finds it in its cache.
    return { ...measured, cold: { ...measured.cold, modelBytes: converted.bytes, codeBytes: 0 } };
  } finally {
    model.url = url;
    converted.server.close();
    converted.server.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The peers' cases in the same form. Their driver counts the peak after the first token, and not what is stored. */
function measurePeers() {
  const cases = runHarness({
    only: `^(transformersjs|wllama)_(${dtypes.join("|")})_${values.device}.*_t1$`,
    reps: 0,
    hasOurs: false,
  });
  for (const r of cases.filter((r) => r.error)) console.log(`${r.id}: ${r.error}`);
  return cases
    .filter((r) => !r.error)
    .map((r) => {
      const renderers = r.procs_after_load.filter((p) => p.type === "renderer").sort((a, b) => b.peak_mb - a.peak_mb);
      const { peak_mb = NaN, rss_mb = NaN } = renderers[0] ?? {};
      const cold = {
        readyMs: r.cold_ready_ms,
        modelBytes: r.model_bytes,
        codeBytes: r.code_bytes,
        peakMb: peak_mb,
        settledMb: rss_mb,
      };
      return { name: r.peer, dtype: r.dtype, cold, warm: { readyMs: r.warm_ready_ms } };
    });
}

const COLUMNS = [
  ["cold, s", (r) => r.cold.readyMs / 1000],
  ["warm, s", (r) => r.warm.readyMs / 1000],
  ["fetched, MB", (r) => (r.cold.modelBytes + r.cold.codeBytes) / 1e6],
  ["stored, MB", (r) => r.cold.storedBytes / 1e6],
  ["peak cold, MiB", (r) => r.cold.peakMb],
  ["warm", (r) => r.warm.peakMb],
  ["ready cold, MiB", (r) => r.cold.settledMb],
  ["warm", (r) => r.warm.settledMb],
];
const shown = (x) => (Number.isFinite(x) ? x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0) : "-");
const line = (cells) => console.log(`| ${cells.join(" | ")} |`);

const [code, model] = [await counted(WWW), await counted(values.model)];
try {
  const ours = [];
  for (const dtype of dtypes) ours.push(await measure(dtype));
  const alone = [];
  for (const dtype of dtypes) alone.push(await measureAlone(dtype));
  const converted = [];
  for (const dtype of values.converted ? dtypes : []) converted.push(await measureConverted(dtype));
  const why = values.peers ? whyNoHarness() : "they are left out";
  const peers = why ? [] : measurePeers();
  const device = ours[0].info?.device ?? values.device;
  const busy = os.loadavg()[0].toFixed(1);
  console.log(`\n${os.cpus()[0].model}, load average ${busy} at the end, one thread, ${device}`);
  console.log("MiB: memory of the renderer process, its peak until the first token and what it is afterwards\n");
  line(["", "dtype", ...COLUMNS.map(([name]) => name)]);
  line(["", "", ...COLUMNS].map(() => "---"));
  for (const r of [...converted, ...alone, ...ours, ...peers])
    line([r.name, r.dtype, ...COLUMNS.map(([, value]) => shown(value(r)))]);
  for (const r of ours) {
    const rivals = peers.filter((p) => p.dtype === r.dtype);
    if (rivals.length > 0)
      line([
        "ours / best peer",
        r.dtype,
        ...COLUMNS.map(([, value]) => shown(value(r) / Math.min(...rivals.map(value)))),
      ]);
  }
  if (why) console.log(`\nno peers: ${why}`);
} finally {
  for (const { server } of [code, model]) {
    server.close();
    server.closeAllConnections();
  }
}
