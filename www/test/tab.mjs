// A tab on the plain page that the packed package lies beside, and what the tests have in it.
import { until, untilInPage } from "./until.mjs";

/** What every test may use in the page's scripts. Runs there. */
async function prepare() {
  window.gpt2 = await import("/package/dist/index.js");

  /** The database of the cache, as it is. */
  window.openCache = () => answered(indexedDB.open("gpt2-web"));
  /** What an IndexedDB request gives. */
  window.answered = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });

  /**
   * The package's worker, in which a function (its source, and an argument) runs first. What that posts as `{ told }`
   * does not reach the package but is an event "told" of the worker. It comes in order with the package's own messages,
   * so what was told before the package's last word is here when that is.
   */
  window.workerAfter = (source, argument) => {
    const moduleOf = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const first = moduleOf(`(${source})(${JSON.stringify(argument)})`);
    const imports = [first, new URL("/package/dist/worker.js", location.href).href];
    const all = moduleOf(imports.map((url) => `import ${JSON.stringify(url)};`).join("\n"));
    const worker = new Worker(all, { type: "module" });
    worker.addEventListener("message", (event) => {
      if (event.data.told === undefined) return;
      event.stopImmediatePropagation();
      worker.dispatchEvent(new MessageEvent("told", { data: event.data.told }));
    });
    return worker;
  };

  /** How many bytes of each path's last answer the worker has read, where {@link loadAndWrite} counts them. */
  window.bytesRead = {};
}

/** Tells of every piece that is read of an answer. Runs in the worker. */
function countReads() {
  const paths = new WeakMap();
  const body = Object.getOwnPropertyDescriptor(Response.prototype, "body");
  Object.defineProperty(Response.prototype, "body", {
    ...body,
    get() {
      const stream = body.get.call(this);
      if (stream) paths.set(stream, new URL(this.url).pathname);
      return stream;
    },
  });
  const { getReader } = ReadableStream.prototype;
  ReadableStream.prototype.getReader = function (...how) {
    const reader = getReader.apply(this, how);
    const pathname = paths.get(this);
    if (pathname === undefined) return reader;
    const { read } = reader;
    let bytes = 0;
    reader.read = async (...into) => {
      const piece = await read.apply(reader, into);
      bytes += piece.value?.byteLength ?? 0;
      postMessage({ told: { pathname, bytes } });
      return piece;
    };
    return reader;
  };
}

/** Opens a tab on the plain page. */
export async function openTab(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  await page.evaluate(prepare);
  return page;
}

/**
 * Runs a function of an argument in the page. As its second argument it gets `plain`, which makes an error a plain
 * object, since others do not come back from there.
 */
export const runInTab = (page, body, argument) =>
  page.evaluate(
    async ([source, argument]) => {
      const plain = (e) => ({ name: e.name, message: e.message, ...e, isBase: e instanceof gpt2.Gpt2Error });
      return await new Function("argument", "plain", `return (${source})(argument, plain)`)(argument, plain);
    },
    [body.toString(), argument],
  );

/**
 * Loads a model, writes a few words and disposes of it. `isCounted`: {@link untilRead} can wait for what it reads;
 * `isAborted`: `controller.abort()` in the page stops it. → `{ text, warnings }`, or what is told of the error
 */
export const loadAndWrite = (page, model, options = {}, { isCounted = false } = {}) =>
  page.evaluate(
    async ({ model, options, countReads }) => {
      const more = {};
      if (countReads !== null) {
        more.worker = workerAfter(countReads);
        more.worker.addEventListener("told", ({ data: { pathname, bytes } }) => (window.bytesRead[pathname] = bytes));
      }
      window.controller = new AbortController();
      try {
        const { signal } = window.controller;
        const generator = await gpt2.createGenerator(model, { device: "wasm", signal, ...more, ...options });
        const few = { max_new_tokens: 8, do_sample: false, eos_token_id: null };
        const { text } = await generator.complete("The old king", few);
        await generator.dispose();
        return { text, warnings: generator.info.warnings };
      } catch (error) {
        return { name: error.name, code: error.code, message: error.message };
      }
    },
    { model, options, countReads: isCounted ? countReads.toString() : null },
  );

/** Waits until the worker has read so many bytes of a path's last answer, and not one more. */
export const untilRead = (page, pathname, bytes) =>
  untilInPage(
    page,
    `the worker has read ${bytes} bytes of ${pathname}`,
    ([pathname, bytes]) => window.bytesRead[pathname] === bytes,
    [pathname, bytes],
  );

/** Waits until so many bytes of a model's weights, which are not whole, are in the cache. */
export const untilStored = (page, model, bytes) =>
  until(`${bytes} bytes of ${model} are stored`, async () => {
    const all = await page.evaluate(() => gpt2.listModels());
    return all.some((entry) => entry.name === model && !entry.complete && entry.bytes >= bytes);
  });
