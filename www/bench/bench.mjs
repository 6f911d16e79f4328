// Measures the package in headless Chromium: prefill and decode in tokens per second, and load times.
//
//   ./build.sh bench [--model URL|demo|FOLDER] [--device wasm|webgpu] [--tokens N] [--reps N]
//
// FOLDER is a checkpoint on disk, for example GPT-2's.
import { statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serve } from "../serve.mjs";
import { launch } from "../test/browser.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "demo" },
    device: { type: "string", default: "wasm" },
    tokens: { type: "string", default: "64" },
    reps: { type: "string", default: "3" },
  },
});
const www = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const folder = statSync(values.model, { throwIfNoEntry: false })?.isDirectory()
  ? path.resolve(values.model)
  : undefined;
const { server, url } = await serve(www);
const models =
  folder &&
  (await serve(folder, 0, (_request, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Cross-Origin-Resource-Policy", "cross-origin");
    return false;
  }));
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(`${url}test/elements.html`); // any page of this origin
  const result = await page.evaluate(
    async ({ model, device, nTokens, reps, entry }) => {
      const { createGenerator } = await import(entry);
      const load = async () => {
        const start = performance.now();
        const generator = await createGenerator(model, { device });
        return { generator, ms: performance.now() - start };
      };
      const cold = await load();
      await cold.generator.dispose();
      const warm = await load();
      const { generator } = warm;
      const nCtx = generator.info.context_window;
      const rows = [];
      for (const nPrompt of [32, 128, 512].filter((n) => n + nTokens <= nCtx)) {
        const prompt = Array.from({ length: nPrompt }, (_, i) => 40 + ((i * 37) % 200));
        const [prefill, decode] = [[], []];
        for (let i = 0; i < reps; i++) {
          const { timings } = await generator.complete(prompt, {
            max_new_tokens: nTokens,
            do_sample: false,
            eos_token_id: null,
            prefix_reuse: false,
          });
          prefill.push(timings.prompt_per_second);
          decode.push(timings.predicted_per_second);
        }
        const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];
        rows.push({
          "prompt tokens": nPrompt,
          "prefill tokens/s": Math.round(median(prefill)),
          "decode tokens/s": Math.round(10 * median(decode)) / 10,
        });
      }
      const stats = await generator.stats();
      return { info: generator.info, coldMs: cold.ms, warmMs: warm.ms, rows, stats };
    },
    {
      model: models?.url ?? values.model,
      device: values.device,
      nTokens: Number(values.tokens),
      reps: Number(values.reps),
      entry: `${url}dist/index.js`,
    },
  );
  const { info, stats } = result;
  console.log(`${os.cpus()[0].model}, Chromium ${browser.version()}`);
  const device = info.adapter ? `${info.device} (${info.adapter})` : info.device;
  const parameters = `${(info.parameters / 1e6).toFixed(1)}M parameters`;
  console.log(`${values.model} on ${device}, ${info.dtype}, ${info.threads} thread, ${parameters}`);
  console.log(`ready after ${Math.round(result.coldMs)} ms cold, ${Math.round(result.warmMs)} ms from the cache`);
  console.table(result.rows);
  const { token_ms, bytes_held, dispatches_per_token } = stats;
  const facts = [
    `token: p50 ${token_ms.p50.toFixed(2)} ms, p99 ${token_ms.p99.toFixed(2)} ms`,
    `WebAssembly memory ${(bytes_held / 1e6).toFixed(0)} MB`,
    ...(dispatches_per_token ? [`${dispatches_per_token.toFixed(0)} dispatches per token`] : []),
  ];
  console.log(facts.join("; "));
} finally {
  await browser.close();
  for (const s of [server, models?.server]) s?.close();
}
