// Serves this folder on localhost: `node serve.mjs [port] [folder]`. For development and tests, not for the public.
import { createReadStream, statSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
  ".map": "application/json",
};

/**
 * A static server. `intercept(request, response)` may answer first, and returns true if it did.
 * Cross-origin isolated, as WebAssembly threads need it.
 */
export function serve(root, port = 0, intercept = () => false) {
  const server = http.createServer(async (request, response) => {
    const headers = {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
      "Cache-Control": "no-cache",
    };
    try {
      if (await intercept(request, response)) return;
      const urlPath = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
      const file = path.join(root, urlPath.endsWith("/") ? `${urlPath}index.html` : urlPath);
      const inside = file.startsWith(path.resolve(root) + path.sep);
      const stat = inside ? statSync(file, { throwIfNoEntry: false }) : undefined;
      if (!stat?.isFile()) return response.writeHead(404, headers).end("not found");
      Object.assign(headers, {
        "Content-Type": TYPES[path.extname(file)] ?? "application/octet-stream",
        "Accept-Ranges": "bytes",
        ETag: `"${stat.size}-${stat.mtimeMs}"`,
      });
      const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? ""); // the one form that a resumed download asks for
      const start = range ? Number(range[1]) : 0;
      if (range && start >= stat.size) return response.writeHead(416, headers).end();
      headers["Content-Length"] = stat.size - start;
      if (range) headers["Content-Range"] = `bytes ${start}-${stat.size - 1}/${stat.size}`;
      response.writeHead(range ? 206 : 200, headers);
      if (request.method === "HEAD") return response.end();
      createReadStream(file, { start }).pipe(response);
    } catch (error) {
      response.writeHead(400, headers).end(String(error));
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve({ server, url: `http://localhost:${server.address().port}/` }));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const [port = "8000", root = here] = process.argv.slice(2);
  const { url } = await serve(path.resolve(root), Number(port));
  console.log(`\n  gpt2-web is at ${url}\n  Press Ctrl+C to stop.\n`);
}
