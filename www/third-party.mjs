// Writes THIRD_PARTY, the licences of what is bundled in the package: `node third-party.mjs FILE`.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const WWW = path.dirname(fileURLToPath(import.meta.url));
/** The npm packages that esbuild puts into the modules. */
const BUNDLED = ["idb", "@noble/hashes", "wasm-feature-detect"];

const run = (...args) =>
  execFileSync("cargo", args, { cwd: path.join(WWW, ".."), encoding: "utf8", maxBuffer: 1 << 28 });

/** The crates in the WebAssembly modules, without those that only run in the compiler. */
function crates() {
  const target = "wasm32-unknown-unknown";
  const tree = ["tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "none"];
  const parts = [
    ["--package", "gpt2-web"],
    ["--package", "gpt2-kernels", "--features", "threads"],
    ["--package", "gpt2-learn-web"],
  ];
  const used = new Set(parts.flatMap((part) => run(...tree, ...part, "--format", "{p}").split("\n")).map(idOf));
  const { packages } = JSON.parse(run("metadata", "--locked", "--format-version", "1", "--filter-platform", target));
  return packages
    .filter(({ name, version, source }) => source !== null && used.has(`${name} ${version}`))
    .map((it) => ({ ...it, folder: path.dirname(it.manifest_path), from: "a Rust crate" }));
}

/** From `memchr v2.8.3 (*)` to `memchr 2.8.3`. */
const idOf = (line) => /^(\S+) v(\S+)/.exec(line)?.slice(1).join(" ");

function modules() {
  return BUNDLED.map((name) => {
    const folder = path.join(WWW, "node_modules", name);
    const { version, license, repository } = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
    return { name, version, license, repository: repository.url ?? repository, folder, from: "an npm package" };
  });
}

/** The licence that came with a package; of several to choose from, the MIT licence where it is one of them. */
function textOf({ folder, name }) {
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|copying|unlicense)/i.test(file));
  const file = files.find((it) => /mit/i.test(it)) ?? files.sort()[0];
  if (file === undefined) return `(${name} comes without the text of its licence.)`;
  return readFileSync(path.join(folder, file), "utf8").replaceAll("\r\n", "\n").trim();
}

const byText = new Map();
const order = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1);
const all = [...modules(), ...crates().sort(order)];
for (const it of all) {
  const { name, version, license, repository, from } = it;
  const text = textOf(it);
  const line = `${name} ${version}, ${from}: ${license ?? "see below"} (${repository ?? "no address"})`;
  byText.set(text, [...(byText.get(text) ?? []), line]);
}
const parts = [...byText].map(([text, lines]) => `${"=".repeat(80)}\n${lines.join("\n")}\n\n${text}\n`);
writeFileSync(
  process.argv[2],
  `What the package gpt2-web contains of others, and under which licence.\n\n${parts.join("\n")}`,
);
console.log(`${path.basename(process.argv[2])}: ${all.length} packages, ${byText.size} texts`);
