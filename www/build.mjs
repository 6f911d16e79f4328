// Bundles the package into dist/: modules, types, the wasm and the demo model. Needs ../build.sh's wasm in wasm/.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(path.dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const source = readFileSync("src/files/source.ts", "utf8");
if (!source.includes(`VERSION = "${version}"`)) throw new Error(`VERSION in src/files/source.ts is not package.json's ${version}`);

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist/demo", { recursive: true });

const common = { bundle: true, format: "esm", target: "es2022", minify: true, keepNames: true, sourcemap: true, legalComments: "none", logLevel: "warning" };
await build({ ...common, entryPoints: { index: "src/api/index.ts", elements: "src/elements/index.ts", page: "src/page/index.ts" }, outdir: "dist", splitting: true, chunkNames: "chunk-[hash]" });
await build({ ...common, entryPoints: { worker: "src/worker/worker.ts", "kernel-thread": "src/engine/kernel-thread.ts" }, outdir: "dist" });
// the page's bench: nothing of it is in the npm package, as of no file named page*
await build({ ...common, entryPoints: { "page-bench": "src/page/bench.ts", "page-bench-worker": "src/page/bench-worker.ts" }, outdir: "dist" });
// for package users whose host cannot send headers; a classic script, to be copied beside their index.html
await build({ ...common, entryPoints: ["src/isolation/coi-sw.ts"], outdir: "dist", format: "iife", sourcemap: false });
// a service worker's scope is its folder, so it lies beside index.html; it is a classic script
await build({ ...common, entryPoints: ["src/page/sw.ts"], outfile: "sw.js", format: "iife", sourcemap: false });

for (const file of readdirSync("wasm").filter((name) => name.endsWith(".wasm"))) cpSync(`wasm/${file}`, `dist/${file}`);
const model_files = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"];
for (const file of model_files) cpSync(`demo/${file}`, `dist/demo/${file}`);

execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "--noEmit", "false", "--emitDeclarationOnly", "--declaration", "--stripInternal", "--rootDir", "src", "--outDir", "dist/types"], { stdio: "inherit" });

// what the page's service worker keeps for a visit without a network
const listed = readdirSync("dist", { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.(js|wasm|json|safetensors)$/.test(entry.name))
  .map((entry) => path.join(entry.parentPath, entry.name).replaceAll(path.sep, "/"));
writeFileSync("dist/offline.json", JSON.stringify(["index.html", "bench.html", "page.css", ...listed.sort()], null, 1) + "\n");
