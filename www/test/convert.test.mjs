// The program `gpt2-web convert`: what it writes, what it refuses, and how it goes on after it was killed. Runs in Node.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { runCli } from "./converted-folder.mjs";
import { paddedDemo, safetensors } from "./safetensors.mjs";
import { ServedFile } from "./served-file.mjs";
import { stop, WWW } from "./site.mjs";
import { until } from "./until.mjs";

const root = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-convert-"));
after(() => rmSync(root, { recursive: true, force: true }));
const DEMO = path.join(WWW, "demo");
const big = new ServedFile(safetensors(paddedDemo(1, 8 << 20)[0]));
const asked = [];
const server = http.createServer((request, response) => {
  asked.push(`${request.method} ${request.url}`);
  const file = /^\/some\/gpt2\/resolve\/main\/(.*)$/.exec(request.url)?.[1] ?? request.url.slice("/folder/".length);
  if (file === "model.safetensors") return big.answer(request, response);
  const at = path.join(DEMO, file);
  const bytes = file === "LICENSE" ? Buffer.from("Use it well.") : existsSync(at) ? readFileSync(at) : null;
  if (!bytes) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Length": bytes.length }).end(request.method === "HEAD" ? undefined : bytes);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
after(() => stop(server));
const host = `http://127.0.0.1:${server.address().port}/`;

const manifestOf = (folder) => JSON.parse(readFileSync(path.join(folder, "gpt2-web.json"), "utf8"));
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const outOf = (name) => path.join(root, name);

test("a folder on disk becomes a folder with hashes, in every dtype", async () => {
  const sizes = [];
  for (const dtype of ["fp32", "fp16", "q8", "q4"]) {
    const out = outOf(dtype);
    const { code, stderr } = await runCli(["convert", DEMO, "--dtype", dtype, "--out", out]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /no licence file was found/);
    const manifest = manifestOf(out);
    const bytes = readFileSync(path.join(out, manifest.file));
    assert.deepEqual(
      [manifest.dtype, manifest.bytes, manifest.sha256, manifest.original, manifest.warnings],
      [dtype, bytes.length, sha256(bytes), undefined, []],
    );
    const nPieces = Math.ceil(bytes.length / manifest.piece_bytes);
    const pieces = Array.from({ length: nPieces }, (_, i) =>
      sha256(bytes.subarray(i * manifest.piece_bytes, (i + 1) * manifest.piece_bytes)),
    );
    assert.deepEqual(manifest.piece_sha256, pieces);
    for (const file of ["config.json", "tokenizer.json", "README.md"]) {
      assert.deepEqual(readFileSync(path.join(out, file)), readFileSync(path.join(DEMO, file)), file);
    }
    assert.ok(!existsSync(path.join(out, "gpt2-web.partial")));
    sizes.push(bytes.length);
  }
  assert.deepEqual(
    sizes,
    [...sizes].sort((a, b) => b - a),
  );
});

test("a hub's model and a URL name where they are from, and bring their licence", async () => {
  const args = ["--remote-host", host, "--out", outOf("hub")];
  assert.equal((await runCli(["convert", "some/gpt2", ...args])).code, 0);
  assert.deepEqual(manifestOf(outOf("hub")).original, { model: "some/gpt2" });
  assert.equal(readFileSync(path.join(outOf("hub"), "LICENSE"), "utf8"), "Use it well.");
  assert.equal((await runCli(["convert", `${host}folder/`, "--out", outOf("url")])).code, 0);
  assert.deepEqual(manifestOf(outOf("url")).original, { model: `${host}folder/` });
  assert.equal(manifestOf(outOf("url")).sha256, manifestOf(outOf("hub")).sha256);
  const none = ["convert", `${host}folder/`, "--no-original", "--out", outOf("none")];
  assert.equal((await runCli(none)).code, 0);
  assert.equal(manifestOf(outOf("none")).original, undefined);
});

for (const [signal, status] of [
  ["SIGKILL", null],
  ["SIGINT", 130],
]) {
  test(`after ${signal} the same command goes on where it was`, async () => {
    const out = outOf(signal);
    const part = path.join(out, "gpt2-web.partial/files/model.safetensors.part");
    big.reset();
    big.holdAfter = 6 << 20;
    const args = ["convert", `${host}folder/`, "--out", out];
    const { child, ended } = runCli.begin(args);
    await until("a part has arrived", () => existsSync(part) && readFileSync(part).length === 6 << 20);
    child.kill(signal);
    const first = await ended;
    assert.equal(first.code, status);
    if (signal === "SIGINT") assert.match(first.stderr, /interrupted; what has arrived is kept/);
    assert.ok(!existsSync(path.join(out, "gpt2-web.json")), "it is not whole");
    big.cut();
    const other = await runCli([...args, "--dtype", "q4"]);
    assert.deepEqual([other.code, /dtype q8 instead of q4/.test(other.stderr)], [2, true], other.stderr);
    const { code, stderr } = await runCli(args);
    assert.equal(code, 0, stderr);
    assert.equal(big.answers.at(-1).from, 6 << 20, "only the rest is fetched");
    assert.equal(manifestOf(out).sha256, manifestOf(outOf("q8")).sha256);
    assert.ok(!existsSync(path.join(out, "gpt2-web.partial")));
  });
}

test("a wrong byte on the way is told, and fetched again", async () => {
  big.reset();
  big.flip = true; // its X-Linked-ETag tells what it should have been
  const args = ["convert", `${host}folder/`, "--out", outOf("flipped")];
  const { code, stderr } = await runCli(args);
  assert.equal(code, 1);
  assert.match(stderr, /model\.safetensors: expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}/);
  big.flip = false;
  assert.equal((await runCli(args)).code, 0);
  assert.equal(manifestOf(outOf("flipped")).sha256, manifestOf(outOf("q8")).sha256);
});

test("wrong arguments, and folders that are in use, are named", async () => {
  const full = outOf("full");
  mkdirSync(full);
  writeFileSync(path.join(full, "thesis.txt"), "years of work");
  const to = ["--out", outOf("never")];
  for (const [args, words] of [
    [[], /gpt2-web convert MODEL/],
    [["change", "demo"], /`command`: expected "convert", found "change"/],
    [["convert", ...to], /`model`/],
    [["convert", "demo", "gpt2", ...to], /`model`: expected one model, found "demo gpt2"/],
    [["convert", "demo"], /`--out`: expected a folder/],
    [["convert", "demo", "--dtype", "int8", ...to], /`--dtype`: expected fp32, fp16, q8, q4, found "int8"/],
    [["convert", "demo", "--fast", ...to], /Unknown option '--fast'/],
    [["convert", "./nowhere", ...to], /`model`: expected a folder that is there, found ".\/nowhere"/],
    [["convert", "demo", "--revision", "main", ...to], /`--revision`: expected none/],
    [["convert", "demo", "--out", full], /`--out`: expected a new or empty folder.*thesis\.txt/],
    [["convert", "demo", "--out", outOf("q8")], /`--out`.*a converted model/],
    [["convert", outOf("q8"), ...to], /`model`: expected a checkpoint as it was published/],
  ]) {
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(code, 2, args.join(" "));
    assert.match(stdout + stderr, words);
  }
  assert.deepEqual(readdirSync(full), ["thesis.txt"]);
  const llama = outOf("llama");
  mkdirSync(llama);
  writeFileSync(path.join(llama, "config.json"), '{"model_type":"llama"}');
  const { code, stderr } = await runCli(["convert", llama, "--out", outOf("never2")]);
  assert.equal(code, 1);
  assert.match(stderr, /model_type/);
  assert.equal((await runCli(["--help"])).code, 0);
});

test("the program that npm installs can be run", async () => {
  const child = spawn(path.join(WWW, "dist/cli.js"), ["--version"]);
  const said = [];
  child.stdout.on("data", (bytes) => said.push(bytes));
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  assert.match(Buffer.concat(said).toString(), /^\d+\.\d+\.\d+\n$/);
});
