// Visits of a page to the cache without a model: the modules that keep files, and what is done with them there.
import path from "node:path";
import { build } from "esbuild";
import { WWW } from "./site.mjs";

/** The modules of the cache as one script, which they are served as. */
export async function bundleCache() {
  const exported = {
    "open-hub.ts": "{ openHub }",
    "hash.ts": "{ hashHere }",
    "cache.ts": "* as cache",
    "store.ts": "* as store",
  };
  const contents = Object.entries(exported)
    .map(([file, what]) => `export ${what} from "./${file}";`)
    .join("\n");
  const built = await build({
    stdin: { contents, resolveDir: path.join(WWW, "src/files"), loader: "ts" },
    define: { PACKAGE_VERSION: JSON.stringify("0") },
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
  });
  return built.outputFiles[0].text;
}

/** What is done in the page: `visit` is one load, as far as the hub sees it. */
export async function prepareVisits() {
  const { openHub, hashHere, cache, store } = await import("/modules.js");
  const MODEL = {
    kind: "url",
    name: "/models/packed",
    revision: "main",
    base: new URL("/models/packed/", location).href,
  };
  const read = async (file) => {
    const pieces = [];
    for await (const chunk of file.chunks) pieces.push(chunk.slice());
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  };
  /** Bytes by which a file can be told from others. */
  const image = (bytes, seed) => Uint8Array.from({ length: bytes }, (_, i) => (i * seed) >> 7);
  const visit = async (name, { bytes = 9_000_000, seed = 3, options = {}, failAfter, abortAfter, hangAfter } = {}) => {
    const controller = new AbortController();
    const warnings = [];
    const hub = await openHub(MODEL, {
      fetch: (url, init) => fetch(url, init),
      verify: true,
      cache: true,
      signal: controller.signal,
      startHash: hashHere,
      warn: (m) => warnings.push(m),
      checking: () => undefined,
      isAnew: false,
      ...options,
    });
    try {
      for (const file of ["config.json", "tokenizer.json"]) await read(await hub.open(file));
      const kept = await hub.openPacked(name);
      if (kept) {
        const found = await read(kept);
        await hub.complete();
        if (kept.warnings.join() !== "said when it was packed") throw new Error(`it says ${kept.warnings}`);
        return {
          from: "cache",
          isRight: found.length === bytes && found.every((b, i) => b === (((i * seed) >> 7) & 255)),
          warnings,
        };
      }
      const raw = await read(await hub.open("model.safetensors"));
      const whole = image(bytes, seed);
      async function* chunks() {
        // views of shared memory, as the kernels give them, in lengths of their own
        const memory = globalThis.crossOriginIsolated ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
        new Uint8Array(memory).set(whole);
        for (let at = 0; at < bytes; at += 3_000_001) {
          if (at > failAfter) throw new Error("no more");
          if (at > hangAfter) await new Promise(() => undefined);
          if (at > abortAfter) controller.abort();
          yield new Uint8Array(memory, at, Math.min(3_000_001, bytes - at));
        }
      }
      const told = ["said when it was packed"];
      await hub.keepPacked({ name, bytes, chunks: chunks(), replaces: ["model.safetensors"], warnings: told });
      await hub.complete();
      return { from: "network", rawBytes: raw.length, warnings };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message, warnings };
    } finally {
      await hub.close();
    }
  };
  const stored = async () =>
    (await Promise.all([`${MODEL.base}#main`, `${MODEL.base}#main#next`].map(store.filesOf)))
      .flat()
      .filter((f) => f.n_bytes !== null)
      .map(({ file, n_bytes, n_chunks, whole }) => ({ file, n_bytes, n_chunks, whole }));
  Object.assign(window, { visit, stored, cache, store, MODEL });
}
