// The peers' harness (transformers.js and wllama, random weights of 124M shapes, a driver for Chromium), which is not
// part of this repository: it is read from ../shared/peer-bench or $GPT2_WEB_SHARED/peer-bench, its big files from
// $PEERS_DATA.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const WWW = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const HARNESS = path.join(process.env.GPT2_WEB_SHARED ?? path.join(WWW, "../../shared"), "peer-bench");
const DATA = process.env.PEERS_DATA;

/** The checkpoint that the peers' models are converted from. */
export const CHECKPOINT = DATA && path.join(DATA, "models/gpt2");

/** Why it cannot be used, or `undefined`. */
export function whyNoHarness() {
  if (!existsSync(path.join(HARNESS, "driver.mjs")))
    return `no harness in ${HARNESS}: name the folder above it in GPT2_WEB_SHARED`;
  if (CHECKPOINT && existsSync(path.join(CHECKPOINT, "model.safetensors"))) return undefined;
  const why = DATA ? `PEERS_DATA (${DATA}) has no models` : "PEERS_DATA is not set";
  return `${why}: run PEERS_DATA=FOLDER ${HARNESS}/setup.sh (4 GB), and this with the same PEERS_DATA`;
}

/** Measures the cases whose names match `only`, our package among them if `hasOurs`. → what the driver says of each */
export function runHarness({ only, reps, hasOurs }) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-peers-"));
  try {
    cpSync(HARNESS, path.join(folder, "harness"), { recursive: true }); // it writes beside itself
    const env = { ...process.env, PEERS_DATA: DATA, PEERS_NODE: process.env.PEERS_NODE ?? path.join(DATA, "node") };
    if (hasOurs) {
      env.PEERS_OURS = path.join(folder, "ours");
      mkdirSync(env.PEERS_OURS);
      const { version } = JSON.parse(readFileSync(path.join(WWW, "package.json"), "utf8"));
      execFileSync("tar", [
        "-xzf",
        path.join(WWW, `../dist/gpt2-web-${version}.tgz`),
        "--strip-components=1",
        "-C",
        env.PEERS_OURS,
      ]);
    }
    const args = ["driver.mjs", "--model", "gpt2", "--reps", String(reps), "--only", only];
    const { status } = spawnSync(process.execPath, args, {
      cwd: path.join(folder, "harness"),
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (status !== 0) throw new Error(`the harness ended with ${status}`);
    const results = path.join(folder, "harness/results");
    return readdirSync(results)
      .filter((file) => file.includes("__"))
      .map((file) => JSON.parse(readFileSync(path.join(results, file), "utf8")));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
