// Runs `gpt2-web convert`, as it lies in the built package.
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { WWW } from "./site.mjs";

const CLI = path.join(WWW, "dist/cli.js");

/** Begins it. → the process, and what it will have said when it has ended */
function begin(args) {
  const child = spawn(process.execPath, [CLI, ...args]);
  const said = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (said[name] += text));
  return { child, ended: once(child, "close").then(([code]) => ({ code, ...said })) };
}

/** Runs it to its end. → `{ code, stdout, stderr }` */
export const runCli = (args) => begin(args).ended;
runCli.begin = begin;

/** Converts a folder, and fails if that does. */
export async function convertFolder(from, dtype, out, more = []) {
  const { code, stderr } = await runCli(["convert", from, "--dtype", dtype, "--out", out, ...more]);
  if (code !== 0) throw new Error(`convert ended with ${code}: ${stderr}`);
}
