// Bundles the package into dist/: modules, types, the wasm and the demo model. Needs ../build.sh's wasm in wasm/.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { drawIcons } from "./icons.mjs";
import { writeServiceWorker } from "./service-worker.mjs";

process.chdir(path.dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync("package.json", "utf8"));

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist/demo", { recursive: true });

/** wasm-bindgen's loader knows a place of the module by itself, from which a bundler would make a second copy. */
const withoutOwnPlace = {
  name: "without-own-place",
  setup: ({ onLoad }) =>
    onLoad({ filter: /gpt2_(web|web_full|learn)\.js$/ }, ({ path: file }) => {
      const source = readFileSync(file, "utf8");
      const wasm = path.basename(file).replace(".js", "_bg.wasm");
      const place = `module_or_path = new URL('${wasm}', import.meta.url);`;
      if (source.split(place).length !== 2) throw new Error(`${file}: expected once \`${place}\``);
      return { contents: source.replace(place, 'throw new Error("the module\'s address is missing");') };
    }),
};

const modules = readdirSync("wasm").filter((name) => name.endsWith(".wasm"));
const digest = (file) =>
  createHash("sha384")
    .update(readFileSync(`wasm/${file}`))
    .digest("base64");
const integrity = Object.fromEntries(modules.map((file) => [file, `sha384-${digest(file)}`]));

const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  keepNames: true,
  sourcemap: true,
  legalComments: "eof",
  logLevel: "warning",
  plugins: [withoutOwnPlace],
  define: { PACKAGE_VERSION: JSON.stringify(version), MODULE_INTEGRITY: JSON.stringify(integrity) },
};
await build({
  ...common,
  entryPoints: {
    index: "src/api/index.ts",
    elements: "src/elements/index.ts",
    transformers: "src/adapters/transformers.ts",
    "prompt-api": "src/adapters/prompt-api.ts",
    openai: "src/adapters/openai.ts",
    learn: "src/learn/index.ts",
  },
  outdir: "dist",
  splitting: true,
  chunkNames: "chunk-[hash]",
});
await build({ ...common, entryPoints: { worker: "src/worker/worker.ts" }, outdir: "dist" });
await build({ ...common, entryPoints: { "learn-worker": "src/learn/worker.ts" }, outdir: "dist" });
// What the worker imports where it needs the full build: wasm-bindgen's script for it.
await build({ ...common, entryPoints: ["wasm/gpt2_web_full.js"], outdir: "dist" });
// The program `gpt2-web`, which runs in Node.
await build({
  ...common,
  entryPoints: { cli: "src/cli/cli.ts" },
  outdir: "dist",
  platform: "node",
  target: "node20",
  minify: false,
  banner: { js: "#!/usr/bin/env node" },
});
chmodSync("dist/cli.js", 0o755);
// Vite turns files below 4 KiB into `data:` URLs, from which a strict policy (CSP) lets no worker start. With its source
// map in it, the kernels' thread is larger, and so is the other one as it is.
const threads = [
  { name: "kernel-thread", from: "src/engine/kernel-thread.ts", sourcemap: "inline" },
  { name: "hash-thread", from: "src/files/hash-thread.ts", sourcemap: false },
];
for (const { name, from, sourcemap } of threads) {
  await build({ ...common, entryPoints: { [name]: from }, outdir: "dist", minify: false, sourcemap });
  const { size } = statSync(`dist/${name}.js`);
  if (size < 4096) throw new Error(`dist/${name}.js: expected 4 KiB or more, found ${size} bytes`);
}
// The page. Its files begin with `page` and are left out of the npm package. A view's script is a chunk of its own.
await build({
  ...common,
  entryPoints: { page: "src/page/index.ts", "page-bench-worker": "src/page/speed/bench-worker.ts" },
  outdir: "dist",
  splitting: true,
  chunkNames: "page-[name]-[hash]",
});
await build({ entryPoints: { page: "styles/page.css" }, bundle: true, minify: true, outdir: "dist", target: "es2022" });
// For package users whose host cannot send headers: a classic script, which they copy beside their index.html.
await build({ ...common, entryPoints: ["src/isolation/coi-sw.ts"], outdir: "dist", format: "iife", sourcemap: false });

for (const file of modules) cpSync(`wasm/${file}`, `dist/${file}`);
const modelFiles = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"];
for (const file of modelFiles) cpSync(`demo/${file}`, `dist/demo/${file}`);

const declarations =
  "--noEmit false --emitDeclarationOnly --declaration --stripInternal --rootDir src --outDir dist/types";
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...declarations.split(" ")], { stdio: "inherit" });

execFileSync(process.execPath, ["node_modules/@custom-elements-manifest/analyzer/cem.js", "analyze", "--quiet"]);

// What the page's service worker keeps for a visit without a network: not the package's entries, nor what is for
// editors and for Node.
const ofPackage =
  /^(index|elements|learn|transformers|prompt-api|openai|chunk-\w+|cli|coi-sw|custom-elements)\.js(on)?$/;
const listed = readdirSync("dist", { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.(js|css|wasm|json|safetensors)$/.test(entry.name))
  .filter((entry) => !ofPackage.test(entry.name))
  .map((entry) => path.join(entry.parentPath, entry.name).replaceAll(path.sep, "/"));
const beside = ["index.html", "manifest.webmanifest", "icon.svg", ...(await drawIcons())];
// for the GPU and other tokenizers, and for learning
const forSome = listed.filter((file) => /^(gpt2_web_full|gpt2_learn|learn-worker)/.test(path.basename(file)));
await writeServiceWorker(".", [...beside, ...listed], forSome);
