// A server on an origin of its own that serves the demo model as oddly as a test wants.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { after } from "node:test";
import { stop, WWW } from "./site.mjs";

const NAMES = ["config.json", "tokenizer.json", "model.safetensors"];

/** The demo model's files by name. */
export const FILES = Object.fromEntries(NAMES.map((name) => [name, readFileSync(path.join(WWW, "demo", name))]));

/** Headers that let every page read an answer, but only the headers that any page may read. */
export const OPEN = { "Access-Control-Allow-Origin": "*" };

/** What a plain server answers: 404 for what is not there, and parts where they are asked for. */
export function answerPlainly(request, response, { file, bytes }, headers = {}) {
  if (!bytes) return response.writeHead(404, OPEN).end("no such file");
  const etag = `"${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}"`;
  const all = { ...OPEN, ETag: etag, "Content-Type": "application/octet-stream", "X-File": file, ...headers };
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (!range) {
    response.writeHead(200, { ...all, "Content-Length": bytes.length });
    return response.end(request.method === "HEAD" ? undefined : bytes);
  }
  const [start, last] = [Number(range[1]), Math.min(bytes.length - 1, Number(range[2] || bytes.length - 1))];
  const part = bytes.subarray(start, last + 1);
  all["Content-Range"] = `bytes ${start}-${last}/${bytes.length}`;
  response.writeHead(206, { ...all, "Content-Length": part.length }).end(request.method === "HEAD" ? undefined : part);
}

/**
 * Starts one until the file's tests are over. `answer(request, response, { file, bytes, query })` may answer a request
 * by itself, and returns `false` where it leaves that to {@link answerPlainly}. → `{ url, asked, set }`
 */
export async function openOddServer() {
  const asked = [];
  let answer = () => false;
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    const file = url.pathname.replace(/^\/model\//, "");
    const wanted = { file, bytes: FILES[file], query: url.search };
    asked.push({ method: request.method, range: request.headers.range, file, query: url.search });
    if (answer(request, response, wanted) === false) answerPlainly(request, response, wanted);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => stop(server));
  return {
    url: `http://localhost:${server.address().port}/model/`,
    asked,
    /** From now on it answers so. */
    set(behaviour) {
      answer = behaviour;
      asked.length = 0;
    },
  };
}
