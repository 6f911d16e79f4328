// What the package's tests run in: the packed package, unpacked beside a plain HTML file and served statically.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "../serve.mjs";

export const WWW = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { version } = JSON.parse(readFileSync(path.join(WWW, "package.json"), "utf8"));

/** Stops a server, also where a browser keeps connections to it open. */
export async function stop(server) {
  const stopped = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await stopped;
}

/** Has an answer sent as plain hosts send it: without the headers that isolate a page. */
export function withoutIsolation(response) {
  const write = response.writeHead.bind(response);
  response.writeHead = (status, headers = {}) => {
    const kept = Object.entries(headers).filter(([name]) => !name.startsWith("Cross-Origin-"));
    return write(status, Object.fromEntries(kept));
  };
}

/** Serves the package and a few checkpoints. → `{ url, root, requests, hooks, close }` */
export async function site() {
  const root = mkdtempSync(path.join(os.tmpdir(), "gpt2-web-"));
  execFileSync("tar", ["-xzf", path.join(WWW, `../dist/gpt2-web-${version}.tgz`), "-C", root]);
  writeFileSync(
    path.join(root, "index.html"),
    "<!doctype html><meta charset=utf-8><title>plain</title><link rel=icon href='data:,'>",
  );

  const model = (name, files) => {
    mkdirSync(path.join(root, "models", name), { recursive: true });
    for (const [file, from] of Object.entries(files)) {
      const to = path.join(root, "models", name, file);
      if (Buffer.isBuffer(from)) writeFileSync(to, from);
      else cpSync(from, to);
    }
  };
  const demo = (file) => path.join(WWW, "demo", file);
  const config = { "config.json": demo("config.json"), "tokenizer.json": demo("tokenizer.json") };
  const weights = readFileSync(demo("model.safetensors"));
  model("whole", { ...config, "model.safetensors": demo("model.safetensors") });
  model("truncated", { ...config, "model.safetensors": weights.subarray(0, weights.length - 1000) });
  model("no-weights", config);
  model("not-safetensors", { ...config, "model.safetensors": Buffer.from("<!doctype html><title>not found</title>") });
  model("llama", { ...config, "config.json": Buffer.from('{"model_type":"llama"}') });
  const otherWidth = readFileSync(demo("config.json"), "utf8").replace('"n_embd": 160', '"n_embd": 80');
  model("other-width", {
    ...config,
    "config.json": Buffer.from(otherWidth),
    "model.safetensors": demo("model.safetensors"),
  });

  /** The paths that were asked for, but for questions without an answer's bytes (HEAD). */
  const requests = [];
  const hooks = { intercept: undefined };
  const { server, url } = await serve(root, 0, (request, response) => {
    if (request.method !== "HEAD") requests.push(request.url);
    response.setHeader("Access-Control-Allow-Origin", "*"); // as the hub does
    return hooks.intercept?.(request, response) ?? false;
  });
  return {
    url,
    root,
    requests,
    hooks,
    async close() {
      await stop(server);
      rmSync(root, { recursive: true, force: true });
    },
  };
}
