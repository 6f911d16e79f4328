// What the package weighs, by file, and what a visitor downloads: `node sizes.mjs`. Fails where that is too much.
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";

/**
 * Most bytes, as brotli sends them, that a visitor downloads whose model runs on the CPU and has GPT-2's tokenizer; the
 * model does not count. Whoever makes it less lowers the number.
 */
const CPU_BUDGET = 400_000;

/** Most bytes, as brotli sends them, that whoever learns downloads besides. */
const LEARN_BUDGET = 168_000;

const DIST = path.join(path.dirname(fileURLToPath(import.meta.url)), "dist");
const read = (file) => readFileSync(path.join(DIST, file));
const compressed = (bytes) =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 } })
    .byteLength;

/** A module and those that it imports. */
function closure(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  const imports = read(file)
    .toString()
    .matchAll(/(?:from|import)\s*"\.\/([\w-]+\.js)"/g);
  for (const [, next] of imports) closure(next, found);
  return found;
}

/** Of the kernels a browser takes one module; most have relaxed SIMD, and isolated pages use threads. */
const threads = ["kernel-thread.js", "hash-thread.js", "kernels-relaxed-threads.wasm"];
const every = [...closure("index.js"), ...closure("worker.js"), ...threads];
const VISITORS = {
  CPU: new Set([...every, "gpt2_web_bg.wasm"]),
  GPU: new Set([...every, "gpt2_web_full.js", "gpt2_web_full_bg.wasm"]),
};

const learning = ["learn-worker.js", "gpt2_learn_bg.wasm", ...closure("learn.js")];
VISITORS.learning = new Set(learning.filter((file) => !VISITORS.CPU.has(file)));

const isCode = (file) => /\.(js|wasm)$/.test(file) && !file.startsWith("page");
const rows = readdirSync(DIST)
  .filter(isCode)
  .map((file) => {
    const bytes = read(file);
    const visitors = Object.keys(VISITORS).filter((visitor) => VISITORS[visitor].has(file));
    return { file, bytes: bytes.byteLength, brotli: compressed(bytes), visitors };
  });
rows.sort((a, b) => b.brotli - a.brotli);
const line = (file, bytes, brotli, remark) =>
  `${file.padEnd(30)} ${String(bytes).padStart(10)} ${String(brotli).padStart(10)}  ${remark}`.trimEnd();
console.log(line("file", "bytes", "brotli", ""));
for (const { file, bytes, brotli, visitors } of rows) console.log(line(file, bytes, brotli, visitors.join(", ")));
const downloads = (visitor) =>
  rows.filter(({ visitors }) => visitors.includes(visitor)).reduce((sum, { brotli }) => sum + brotli, 0);
const total = downloads("CPU");
console.log(line("who learns downloads besides", "", downloads("learning"), `of at most ${LEARN_BUDGET}`));
console.log(line("a GPU visitor downloads", "", downloads("GPU"), ""));
console.log(line("a CPU visitor downloads", "", total, `of at most ${CPU_BUDGET}`));
for (const [who, found, budget] of [
  ["a CPU visitor", total, CPU_BUDGET],
  ["who learns", downloads("learning"), LEARN_BUDGET],
]) {
  if (found <= budget) continue;
  console.error(`sizes: expected at most ${budget} bytes for ${who}, found ${found}`);
  process.exitCode = 1;
}
