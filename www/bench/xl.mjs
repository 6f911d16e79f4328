// Proof that GPT-2 XL (1.5B parameters) loads and runs in a page: `./build.sh bench xl [options]`.
//
//   --source F16|F32   how the checkpoint stores its numbers (F16: 3.1 GB to convert; F32: 6.2 GB)
//   --dtype DTYPE      what they become (q4)
//   --layers N         fewer blocks than XL's 48, to try it out
//   --tokens N         how many tokens it writes at the end (5)
//
// The checkpoint exists nowhere: a local server makes up its bytes, small normal numbers, as they are fetched. Time to
// ready includes that. The package in dist/ is measured, on the CPU, keeping nothing (`cache: false`).
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serve } from "../serve.mjs";
import { launch } from "../test/browser.mjs";

const WWW = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
  options: {
    source: { type: "string", default: "F16" },
    dtype: { type: "string", default: "q4" },
    layers: { type: "string", default: "48" },
    tokens: { type: "string", default: "5" },
    package: { type: "string" },
  },
});
const VALUE_BYTES = { F16: 2, F32: 4 }[values.source];
if (!VALUE_BYTES) throw new Error(`--source: expected F16 or F32, found ${values.source}`);
const config = {
  model_type: "gpt2",
  n_layer: Number(values.layers),
  n_embd: 1600,
  n_head: 25,
  n_positions: 1024,
  vocab_size: 50257,
};

/** The header of a safetensors file with the shapes of this configuration, and how many bytes follow it. */
function checkpoint({ n_layer, n_embd: c, n_positions, vocab_size }) {
  const norm = (name) => [
    [`${name}.weight`, [c]],
    [`${name}.bias`, [c]],
  ];
  const conv1d = (name, k, r) => [
    [`${name}.weight`, [k, r]],
    [`${name}.bias`, [r]],
  ];
  const block = (h) => [
    ...norm(`${h}.ln_1`),
    ...conv1d(`${h}.attn.c_attn`, c, 3 * c),
    ...conv1d(`${h}.attn.c_proj`, c, c),
    ...norm(`${h}.ln_2`),
    ...conv1d(`${h}.mlp.c_fc`, c, 4 * c),
    ...conv1d(`${h}.mlp.c_proj`, 4 * c, c),
  ];
  const tensors = [
    ["wte.weight", [vocab_size, c]],
    ["wpe.weight", [n_positions, c]],
    ...Array.from({ length: n_layer }, (_, i) => block(`h.${i}`)).flat(),
    ...norm("ln_f"),
  ];
  let end = 0;
  const header = {};
  for (const [name, shape] of tensors) {
    const begin = end;
    end += shape.reduce((n, d) => n * d, VALUE_BYTES);
    header[name] = { dtype: values.source, shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return { head: Buffer.concat([length, json]), nBody: end };
}

/** Numbers of about ±0.01 to ±0.03, a whole number of them and no power of two, so that rows do not repeat. */
function noise() {
  const n = 999_983;
  const bytes = Buffer.alloc(n * VALUE_BYTES);
  let seed = 1;
  for (let i = 0; i < n; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const sign = seed >>> 31;
    // exponents of 2^-7 and 2^-6, any mantissa
    if (VALUE_BYTES === 2)
      bytes.writeUInt16LE((sign << 15) | ((8 + ((seed >>> 30) & 1)) << 10) | ((seed >>> 16) & 0x3ff), 2 * i);
    else bytes.writeUInt32LE(((sign << 31) | ((120 + ((seed >>> 30) & 1)) << 23) | (seed & 0x7fffff)) >>> 0, 4 * i);
  }
  return bytes;
}

const { head, nBody } = checkpoint(config);
const pattern = noise();

function* weights() {
  yield head;
  for (let sent = 0; sent < nBody; sent += pattern.length)
    yield pattern.subarray(0, Math.min(pattern.length, nBody - sent));
}

async function sendWeights(request, response) {
  response.writeHead(200, { "Content-Length": head.length + nBody, "Content-Type": "application/octet-stream" });
  if (request.method === "HEAD") return response.end();
  await pipeline(Readable.from(weights()), response).catch(() => undefined); // whoever asked has gone
}

/** What the operating system knows of the browser's renderers: the most that any of them ever held, where it tells. */
async function peakRendererBytes(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const peaks = processInfo
    .filter(({ type }) => type === "renderer")
    .map(({ id }) => {
      try {
        return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]) * 1024;
      } catch {
        return NaN; // not Linux
      }
    });
  return Math.max(...peaks);
}

const root = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-xl-"));
let browser, server;
try {
  const { version } = JSON.parse(readFileSync(path.join(WWW, "package.json"), "utf8"));
  execFileSync("tar", ["-xzf", values.package ?? path.join(WWW, `../dist/gpt2-web-${version}.tgz`), "-C", root]);
  writeFileSync(
    path.join(root, "index.html"),
    "<!doctype html><meta charset=utf-8><title>XL</title><link rel=icon href='data:,'>",
  );
  // the kernels' memory is nobody's business but the worker's: this tells its size all the same
  const worker = path.join(root, "package/dist/worker.js");
  const watch = `
    globalThis.memories = [];
    WebAssembly.Memory = class extends WebAssembly.Memory {
      constructor(descriptor) {
        super(descriptor);
        memories.push(this);
      }
    };
  `;
  writeFileSync(worker, watch + readFileSync(worker, "utf8"));

  const served = await serve(root, 0, async (request, response) => {
    const send = (bytes) => {
      response.writeHead(200, { "Content-Length": bytes.length });
      response.end(request.method === "HEAD" ? undefined : bytes);
    };
    switch (new URL(request.url, "http://localhost").pathname) {
      case "/xl/config.json":
        send(Buffer.from(JSON.stringify(config)));
        return true;
      case "/xl/tokenizer.json": // a tokenizer is needed, but the prompt is token ids
        send(readFileSync(path.join(WWW, "demo/tokenizer.json")));
        return true;
      case "/xl/model.safetensors":
        await sendWeights(request, response);
        return true;
      default:
        return false;
    }
  });
  server = served.server;
  browser = await launch();
  const page = await browser.newPage();
  page.on("console", (message) => console.log(message.text()));
  await page.goto(served.url);

  const sourceGb = ((head.length + nBody) / 1e9).toFixed(2);
  console.log(`${os.cpus()[0].model}, Chromium ${browser.version()}`);
  console.log(`${config.n_layer} blocks, ${sourceGb} GB of ${values.source} to ${values.dtype}`);
  const loaded = await page.evaluate(
    async ({ url, dtype }) => {
      const { createGenerator } = await import("/package/dist/index.js");
      let said = 0;
      const start = performance.now();
      const progress_callback = (event) => {
        const percent = event.total ? (100 * event.loaded) / event.total : NaN;
        if (event.file?.endsWith("safetensors") && percent >= said + 10) {
          said = Math.floor(percent / 10) * 10;
          console.log(`  ${said} % after ${((performance.now() - start) / 1000).toFixed(1)} s`);
        }
      };
      window.generator = await createGenerator(url, {
        device: "wasm",
        dtype,
        cache: false,
        threads: 1,
        progress_callback,
      });
      return { ms: performance.now() - start, info: generator.info, stats: await generator.stats() };
    },
    { url: `${served.url}xl/`, dtype: values.dtype },
  );
  const sizes = await page.workers()[0].evaluate(() => globalThis.memories.map(({ buffer }) => buffer.byteLength));
  const kernelsBytes = Math.max(...sizes);
  const gb = (nBytes) => (Number.isFinite(nBytes) ? `${(nBytes / 1e9).toFixed(2)} GB` : "unknown on this system");
  const { ms, info, stats } = loaded;
  const parameters = `${(info.parameters / 1e6).toFixed(0)}M parameters`;
  console.log(`ready after ${(ms / 1000).toFixed(1)} s: ${parameters} on ${info.device}, ${info.dtype}`);
  console.log(`kernels' memory ${gb(kernelsBytes)} of the 4.29 GB that 32 bits address`);
  console.log(`all WebAssembly memory ${gb(stats.bytes_held)}`);
  console.log(`peak memory of the renderer while loading: ${gb(await peakRendererBytes(browser))}`);

  const written = await page.evaluate(async (nTokens) => {
    const { token_ids, timings } = await generator.complete([15496, 995, 11, 314, 716], {
      max_new_tokens: nTokens,
      do_sample: false,
      eos_token_id: null,
    });
    return { token_ids: [...token_ids], timings };
  }, Number(values.tokens));
  if (written.token_ids.length !== Number(values.tokens))
    throw new Error(`expected ${values.tokens} tokens, found ${written.token_ids.length}`);
  const tokenMs = 1000 / written.timings.predicted_per_second;
  console.log(`wrote the tokens ${written.token_ids.join(" ")}: ${tokenMs.toFixed(0)} ms per token`);
  console.log(`peak memory of the renderer in all: ${gb(await peakRendererBytes(browser))}`);
} finally {
  await browser?.close();
  server?.close();
  server?.closeAllConnections();
  rmSync(root, { recursive: true, force: true });
}
