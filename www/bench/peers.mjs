// The package beside transformers.js and wllama, in one run on one machine: `./build.sh bench peers [options]`.
//
//   --only REGEX   which cases, e.g. '_q8_wasm_t1$' (the default is every CPU case with one thread)
//   --reps N       repetitions of each measurement (3)
//
// The harness (peers' packages, random weights of 124M shapes, a driver for Chromium) is read from ../shared/peer-bench
// or $GPT2_WEB_SHARED/peer-bench; its setup.sh must have been run with $PEERS_DATA set to where its files may lie.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const WWW = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({ options: { only: { type: "string", default: "_wasm_t1$" }, reps: { type: "string", default: "3" } } });

const harness = path.join(process.env.GPT2_WEB_SHARED ?? path.join(WWW, "../../shared"), "peer-bench");
if (!existsSync(path.join(harness, "driver.mjs"))) fail(`no harness in ${harness}: name the folder above it in GPT2_WEB_SHARED`);
const data = process.env.PEERS_DATA;
if (!data || !existsSync(path.join(data, "models/gpt2/model.safetensors"))) {
  fail(`PEERS_DATA ${data ? `(${data}) has no models` : "is not set"}: run PEERS_DATA=FOLDER ${harness}/setup.sh (4 GB), and this with the same PEERS_DATA`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

const folder = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-peers-"));
try {
  // the harness writes beside itself
  cpSync(harness, path.join(folder, "harness"), { recursive: true });
  mkdirSync(path.join(folder, "ours"));
  const { version } = JSON.parse(readFileSync(path.join(WWW, "package.json"), "utf8"));
  execFileSync("tar", ["-xzf", path.join(WWW, `../dist/gpt2-web-${version}.tgz`), "--strip-components=1", "-C", path.join(folder, "ours")]);
  const env = { ...process.env, PEERS_DATA: data, PEERS_NODE: process.env.PEERS_NODE ?? path.join(data, "node"), PEERS_OURS: path.join(folder, "ours") };
  const args = ["driver.mjs", "--model", "gpt2", "--reps", values.reps, "--only", values.only];
  const { status } = spawnSync(process.execPath, args, { cwd: path.join(folder, "harness"), env, stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) fail(`the harness ended with ${status}`);
  const results = path.join(folder, "harness/results");
  report(readdirSync(results).filter((file) => file.includes("__")).map((file) => JSON.parse(readFileSync(path.join(results, file), "utf8"))));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** A table of all cases, then ours over the best peer. */
function report(cases) {
  const columns = [
    ["prefill 32", (r) => r.prefill_tok_s?.[32]?.max], ["128", (r) => r.prefill_tok_s?.[128]?.max], ["512", (r) => r.prefill_tok_s?.[512]?.max],
    ["decode after 32", (r) => r.decode_tok_s?.[32]?.max], ["after 512", (r) => r.decode_tok_s?.[512]?.max],
    ["ready cold, s", (r) => r.cold_ready_ms / 1000], ["warm, s", (r) => r.warm_ready_ms / 1000],
    ["renderer peak, MB", (r) => r.renderer_peak_mb], ["code, MB", (r) => r.code_bytes / 1e6],
  ];
  const line = (cells) => console.log(`| ${cells.join(" | ")} |`);
  const shown = (x) => (Number.isFinite(x) ? x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0) : "-");
  const whole = cases.filter((r) => r.prefill_tok_s);
  for (const r of cases.filter((r) => !r.prefill_tok_s)) console.log(`${r.peer} ${r.dtype}: failed: ${r.error}`);
  console.log("\ntokens per second, best of the repetitions; t: threads\n");
  line(["", "dtype", "t", ...columns.map(([name]) => name)]);
  line(["", "", "", ...columns].map(() => "---"));
  for (const r of whole) line([r.peer, r.dtype, r.threads, ...columns.map(([, value]) => shown(value(r)))]);
  const peers = whole.filter((r) => r.peer !== "ours");
  for (const ours of peers.length ? whole.filter((r) => r.peer === "ours") : []) {
    const rivals = peers.filter((r) => r.threads === ours.threads);
    const ratio = ([name, value]) => {
      const best = name.includes("s", name.length - 1) || name.includes("MB") ? Math.min(...rivals.map(value)) : Math.max(...rivals.map((r) => value(r) ?? 0));
      return shown(value(ours) / best);
    };
    line(["ours / best peer at any dtype", ours.dtype, ours.threads, ...columns.map(ratio)]);
  }
}
