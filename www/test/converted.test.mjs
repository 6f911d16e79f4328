// Converted folders in a real browser: each dtype, other layouts and dtypes, wrong bytes, downloads that break off.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, test } from "node:test";
import { convertFolder } from "./converted-folder.mjs";
import { safetensors, tensorsOf } from "./safetensors.mjs";
import { ServedFile } from "./served-file.mjs";
import { WWW } from "./site.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, runInTab, untilStored } from "./tab.mjs";
import { until } from "./until.mjs";

const MB = 1 << 20;
const stage = await openStageWithFreshTab();
const { served } = stage;
const folder = (name) => path.join(served.root, "models", name);
const manifestOf = (name) => JSON.parse(readFileSync(path.join(folder(name), "gpt2-web.json"), "utf8"));
const DTYPES = ["fp32", "fp16", "q8", "q4"];
for (const dtype of DTYPES) await convertFolder(folder("whole"), dtype, folder(dtype));

/** A file of a folder that is served in its own way, by its path. */
const special = new Map();
served.hooks.intercept = (request, response) => {
  const file = special.get(request.url);
  file?.answer(request, response);
  return file !== undefined;
};
beforeEach(() => {
  special.clear();
  served.requests.length = 0;
});

/** Serves the folder's manifest with other fields. */
function retell(name, fields) {
  const bytes = Buffer.from(JSON.stringify({ ...manifestOf(name), ...fields }));
  special.set(`/models/${name}/gpt2-web.json`, new ServedFile(bytes));
}
const run = (body, argument) => runInTab(stage.page, body, argument);
/** Loads a model and writes 16 tokens. → ids, and what is known of the load */
const write = (model, options = {}) =>
  run(
    async ({ model, options }, plain) => {
      try {
        const source = options.files ? { files: options.files } : model;
        const generator = await gpt2.createGenerator(source, { device: "wasm", ...options });
        const greedy = { max_new_tokens: 16, do_sample: false, eos_token_id: null };
        const { token_ids: ids } = await generator.complete("The old king", greedy);
        const kept = await generator.kept;
        await generator.dispose();
        return { ids, kept, info: generator.info };
      } catch (error) {
        return plain(error);
      }
    },
    { model, options },
  );
const fetched = (pattern) => served.requests.filter((url) => pattern.test(url));

for (const dtype of DTYPES) {
  test(`${dtype}: the same ids as the original's; kept, listed and read without a network`, async () => {
    const original = await write("/models/whole", { dtype, cache: false });
    assert.equal(original.ids.length, 16, original.message);
    const first = await write(`/models/${dtype}`);
    assert.deepEqual(first.ids, original.ids, first.message);
    assert.deepEqual([first.info.dtype, first.kept, first.info.warnings], [dtype, true, []]);
    const [entry] = await run(() => gpt2.listModels());
    assert.deepEqual([entry.complete, entry.dtypes], [true, [dtype]]);
    assert.ok(entry.files.includes(`model.${dtype}.v1.packed`));
    served.requests.length = 0;
    const again = await write(`/models/${dtype}`);
    assert.deepEqual(
      [again.ids, again.kept, served.requests.filter((url) => url.startsWith("/models/"))],
      [original.ids, true, []],
    );
  });
}

test("the GPU takes the same folder", { timeout: 300_000 }, async () => {
  const original = await write("/models/whole", { dtype: "q8", cache: false });
  const gpu = await write("/models/q8", { device: "webgpu" });
  assert.deepEqual([gpu.info?.device, gpu.info?.dtype, gpu.ids], ["webgpu", "q8", original.ids], gpu.message);
});

test("files that were chosen from disk, and a visit without a cache", async () => {
  const original = await write("/models/whole", { dtype: "q8", cache: false });
  assert.deepEqual((await write("/models/q8", { cache: false })).ids, original.ids);
  const names = ["config.json", "tokenizer.json", "gpt2-web.json", "model.q8.v1.packed"];
  const found = await run(async (names) => {
    const files = {};
    for (const name of names) files[`gpt2/${name}`] = await (await fetch(`/models/q8/${name}`)).blob();
    const generator = await gpt2.createGenerator({ files }, { device: "wasm" });
    const greedy = { max_new_tokens: 16, do_sample: false, eos_token_id: null };
    const { token_ids } = await generator.complete("The old king", greedy);
    const kept = await generator.kept;
    await generator.dispose();
    return { token_ids, kept };
  }, names);
  assert.deepEqual(found, { token_ids: original.ids, kept: false });
});

test("an untied head, and warnings, come along", async () => {
  const tensors = tensorsOf(readFileSync(path.join(WWW, "demo/model.safetensors")));
  const [, embedding] = tensors.find(([name]) => name.endsWith("wte.weight"));
  const head = { ...embedding, data: Buffer.from(embedding.data).reverse() };
  const rowBytes = embedding.data.length / embedding.shape[0];
  const rows = Array.from({ length: embedding.shape[0] }, (_, i) =>
    embedding.data.subarray(i * rowBytes, (i + 1) * rowBytes),
  );
  head.data = Buffer.concat(rows.reverse());
  const extra = { dtype: "F32", shape: [1], data: Buffer.alloc(4) };
  const from = folder("untied");
  mkdirSync(from);
  for (const name of ["config.json", "tokenizer.json"]) {
    writeFileSync(path.join(from, name), readFileSync(path.join(folder("whole"), name)));
  }
  const weights = safetensors([...tensors, ["lm_head.weight", head], ["score.weight", extra]]);
  writeFileSync(path.join(from, "model.safetensors"), weights);
  await convertFolder(from, "q8", folder("untied-q8"));
  assert.equal(manifestOf("untied-q8").file, "model.q8.untied.v1.packed");
  const original = await write("/models/untied", { dtype: "q8", cache: false });
  for (const _visit of [1, 2]) {
    const { ids, info, message } = await write("/models/untied-q8");
    assert.deepEqual(ids, original.ids, message);
    assert.deepEqual([...info.warnings].sort(), [...original.info.warnings].sort());
    assert.equal(info.warnings.length, 2);
  }
});

test("an estimate knows the size and the dtype", async () => {
  const told = await run(() => gpt2.estimate("/models/q4", { device: "wasm" }));
  const { bytes } = manifestOf("q4");
  assert.deepEqual([told.dtype, told.problems], ["q4", []]);
  assert.ok(told.download_bytes > bytes && told.download_bytes < bytes + 400_000, `${told.download_bytes}`);
});

test("another dtype or layout: the original where the folder names it, else an error that says what to do", async () => {
  const dtype = await write("/models/q8", { dtype: "fp32" });
  assert.deepEqual([dtype.code, dtype.option], ["invalid_option", "dtype"]);
  assert.match(dtype.message, /expected "q8", which this folder was converted to, or "auto", found "fp32"/);
  for (const [version, words] of [
    [99, /expected packed weights in layout 1, found layout 99; it was converted by a newer version/],
    [0.5, /`layout_version`: a whole number from 1 on, found 0\.5/],
  ]) {
    retell("q8", { layout_version: version });
    const { code, message } = await write("/models/q8");
    assert.equal(code, version === 99 ? "unsupported_model" : "checkpoint");
    assert.match(message, words);
  }
  const url = new URL("models/whole/", served.url).href;
  const original = { original: { model: url } };
  for (const [options, fields] of [
    [{ dtype: "fp32" }, {}],
    [{ dtype: "q8" }, { layout_version: 99 }],
  ]) {
    const expected = await write("/models/whole", { ...options, cache: false });
    retell("q8", { ...fields, ...original });
    const { ids, info, message } = await write("/models/q8", options);
    assert.deepEqual(ids, expected.ids, message);
    assert.equal(info.dtype, options.dtype);
    assert.match(
      info.warnings.join(),
      /^gpt2-web\.json: expected .* so the original was loaded: http:.*\/models\/whole\//,
    );
    assert.deepEqual(fetched(/\.packed$/), []);
    const { problems } = await run((options) => gpt2.estimate("/models/q8", { device: "wasm", ...options }), options);
    assert.match(problems.join(), /the original was loaded/);
  }
  retell("q8", { layout_version: 99, original: { model: new URL("models/q8/", served.url).href } });
  assert.equal((await write("/models/q8", { dtype: "q8" })).code, "unsupported_model");
});

test("a folder that was converted again for a new layout replaces what the cache knows of the old one", async () => {
  retell("q8", { layout_version: 99 });
  const load = () => write("/models/q8");
  assert.equal((await load()).code, "unsupported_model");
  special.clear();
  assert.equal((await load()).kept, true);
  // as an older version of the package left it: whole, in a layout of its own
  await run(async () => {
    const db = await openCache();
    const tx = db.transaction(["files", "chunks"], "readwrite");
    for (const store of ["files", "chunks"].map((name) => tx.objectStore(name))) {
      for (const key of await answered(store.getAllKeys())) {
        if (!String(key[1]).endsWith(".packed")) continue;
        const value = await answered(store.get(key));
        const file = "model.q8.v0.packed";
        await answered(store.delete(key));
        if (value.file) await answered(store.put({ ...value, file }));
        else await answered(store.put(value, [key[0], file, key[2]]));
      }
    }
    db.close();
  });
  const { kept, info } = await load();
  assert.deepEqual([kept, info?.dtype], [true, "q8"]);
  const [entry] = await run(() => gpt2.listModels());
  assert.deepEqual(
    entry.files.filter((file) => file.endsWith(".packed")),
    ["model.q8.v1.packed"],
    "the older one is gone",
  );
});

test("what is wrong with the file is named: a byte, its size, a manifest that is none", async () => {
  const packed = "model.q8.v1.packed";
  const file = new ServedFile(readFileSync(path.join(folder("q8"), packed)));
  file.tag = '"t"';
  file.flip = true;
  special.set(`/models/q8/${packed}`, file);
  for (const cache of [true, false]) {
    const wrong = await write("/models/q8", { cache });
    assert.deepEqual([wrong.name, wrong.code, wrong.file], ["IntegrityError", "integrity", packed]);
    assert.match(wrong.message, /expected SHA-256 [0-9a-f]{64} of the bytes from 0 on, found [0-9a-f]{64}/);
  }
  assert.deepEqual(await run(() => gpt2.listModels()), [], "nothing wrong is kept");
  file.flip = false;
  assert.equal((await write("/models/q8")).ids.length, 16);
  await stage.renew();
  for (const [fields, words] of [
    [
      { bytes: 5, piece_bytes: 5, piece_sha256: ["0".repeat(64)] },
      /packed: expected \d+ bytes, as config\.json's sizes make/,
    ],
    [{ file: "../../secret" }, /`file`: the name of a file such as model\.q8\.v1\.packed, found "\.\.\/\.\.\/secret"/],
    [{ format: "other" }, /`format`: "gpt2-web packed weights", found "other"/],
    [{ piece_sha256: [] }, /`piece_sha256`: 1 times 64 hexadecimal digits/],
  ]) {
    retell("q8", fields);
    const { code, message } = await write("/models/q8", { cache: false });
    assert.equal(code, "checkpoint");
    assert.match(message, words);
  }
  special.clear();
  rmSync(path.join(folder("q4"), "model.q4.v1.packed"));
  const missing = await write("/models/q4");
  assert.match(missing.message, /model\.q4\.v1\.packed: expected the packed weights that gpt2-web\.json names/);
});

test("a download that breaks off goes on where it was", async () => {
  const packed = "model.fp32.v1.packed";
  const file = new ServedFile(readFileSync(path.join(folder("fp32"), packed)));
  special.set(`/models/fp32/${packed}`, file);
  file.holdAfter = 5 * MB;
  const first = loadAndWrite(stage.page, "/models/fp32").catch(() => undefined); // ends with its page
  await untilStored(stage.page, "/models/fp32", 4 * MB);
  await stage.visitAgain();
  await first;
  file.cut();
  assert.equal((await write("/models/fp32")).ids?.length, 16);
  assert.equal(file.answers.at(-1).from, 4 * MB);
});

test("a large file that comes fast is kept when the model can write", async () => {
  const tensors = tensorsOf(readFileSync(path.join(WWW, "demo/model.safetensors")));
  const wpe = tensors.find(([name]) => name.endsWith("wpe.weight"))[1];
  const [nPositions, width] = wpe.shape;
  const nTimes = Math.ceil((24 * MB) / (nPositions * width * 4));
  Object.assign(wpe, { shape: [nTimes * nPositions, width], data: Buffer.concat(Array(nTimes).fill(wpe.data)) });
  const from = folder("long");
  mkdirSync(from);
  const config = JSON.parse(readFileSync(path.join(folder("whole"), "config.json"), "utf8"));
  writeFileSync(path.join(from, "config.json"), JSON.stringify({ ...config, n_positions: nTimes * nPositions }));
  writeFileSync(path.join(from, "tokenizer.json"), readFileSync(path.join(folder("whole"), "tokenizer.json")));
  writeFileSync(path.join(from, "model.safetensors"), safetensors(tensors));
  await convertFolder(from, "fp32", folder("long-fp32"));

  const found = await run(async () => {
    const keeping = [];
    const progress_callback = ({ phase, loaded, total }) => phase === "keep" && keeping.push([loaded, total]);
    const generator = await gpt2.createGenerator("/models/long-fp32", { device: "wasm", progress_callback });
    const kept = await generator.kept;
    await generator.dispose();
    return { kept, keeping, warnings: generator.info.warnings };
  });
  const { bytes } = manifestOf("long-fp32");
  assert.deepEqual([found.kept, found.warnings], [true, []]);
  assert.deepEqual(
    [found.keeping[0], found.keeping.at(-1)],
    [
      [0, bytes],
      [bytes, bytes],
    ],
  );
  served.requests.length = 0;
  assert.equal((await write("/models/long-fp32")).kept, true);
  assert.deepEqual(fetched(/models/), []);
});

test("a model writes before its weights are kept, and dispose lets them be kept", async () => {
  const found = await run(async () => {
    const events = [];
    const options = {
      device: "wasm",
      dtype: "q8",
      progress_callback: ({ status, phase }) => events.push([status, phase]),
    };
    const generator = await gpt2.createGenerator("/models/whole", options);
    const nAtReady = events.length;
    const { token_ids } = await generator.complete("The old king", { max_new_tokens: 2, eos_token_id: null });
    await generator.dispose();
    const { dtypes } = (await gpt2.listModels())[0];
    const isReadyFirst = events.findIndex(([status]) => status === "ready") < events.findIndex((e) => e[1] === "keep");
    return { kept: await generator.kept, nTokens: token_ids.length, dtypes, isReadyFirst, nAtReady };
  });
  const { nAtReady, ...rest } = found;
  assert.deepEqual(rest, { kept: true, nTokens: 2, dtypes: ["q8"], isReadyFirst: true });
  assert.ok(nAtReady > 0);
});

test("a keeping that fails is a warning, and the next visit keeps them", async () => {
  // The worker's storage takes the checkpoint, and refuses what was packed.
  const refuse = () => {
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (value, ...key) {
      if (value instanceof Blob && value.size > 1e6) throw new DOMException("no room here", "DataError");
      return put.call(this, value, ...key);
    };
  };
  const found = await run(async (source) => {
    const worker = workerAfter(source);
    const generator = await gpt2.createGenerator("/models/whole", { device: "wasm", dtype: "q8", worker });
    const { token_ids } = await generator.complete("The old king", { max_new_tokens: 2, eos_token_id: null });
    const kept = await generator.kept;
    await generator.dispose();
    return { nTokens: token_ids.length, kept, warnings: generator.info.warnings };
  }, refuse.toString());
  assert.deepEqual([found.nTokens, found.kept], [2, false]);
  assert.match(found.warnings.join(), /model\.q8\.v1\.packed: not cached: IndexedDB cannot be used \(no room here\)/);
  await until("the checkpoint itself is whole", () => run(() => gpt2.isCached("/models/whole")));
  served.requests.length = 0;
  const again = await write("/models/whole", { dtype: "q8" });
  assert.deepEqual([again.kept, fetched(/safetensors$/)], [true, []], "the next visit keeps it, and fetches nothing");
});
