// How a model is named: a hub page's address, a folder of files, objects of another frame; and how loading is cancelled.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openStage } from "./stage.mjs";
import { openTab, runInTab } from "./tab.mjs";

const { browser, served } = await openStage();
const page = await openTab(await browser.newContext(), served.url);
const run = (body, argument) => runInTab(page, body, argument);

/** Where the page that is pasted is looked for, and under which name. */
const PAGES = {
  "https://huggingface.co/some/gpt2": ["some/gpt2", "main", "/some/gpt2/resolve/main/"],
  "https://huggingface.co/some/gpt2/": ["some/gpt2", "main", "/some/gpt2/resolve/main/"],
  "https://huggingface.co/gpt2": ["gpt2", "main", "/gpt2/resolve/main/"],
  "huggingface.co/some/gpt2?library=transformers": ["some/gpt2", "main", "/some/gpt2/resolve/main/"],
  "hf.co/gpt2": ["gpt2", "main", "/gpt2/resolve/main/"],
  "http://hf.co/some/gpt2/tree/v1.0/": ["some/gpt2", "v1.0", "/some/gpt2/resolve/v1.0/"],
  "https://huggingface.co/some/gpt2/blob/v1.0/config.json": ["some/gpt2", "v1.0", "/some/gpt2/resolve/v1.0/"],
  "https://huggingface.co/some/gpt2/resolve/v1.0/model.safetensors?download=true": [
    "some/gpt2",
    "v1.0",
    "/some/gpt2/resolve/v1.0/",
  ],
  "https://huggingface.co/some/gpt2/resolve/main/": ["some/gpt2", "main", "/some/gpt2/resolve/main/"],
  "https://huggingface.co/some/gpt2/tree/refs%2Fpr%2F1": [
    "some/gpt2",
    "refs/pr/1",
    "/some/gpt2/resolve/refs%2Fpr%2F1/",
  ],
  "https://huggingface.co/some/gpt2/tree/main/small": ["some/gpt2/small", "main", "/some/gpt2/resolve/main/small/"],
  "https://huggingface.co/some/gpt2/discussions/3": ["some/gpt2", "main", "/some/gpt2/resolve/main/"],
};

test("the address of a hub's page is the model that the page shows", async () => {
  let folder;
  served.hooks.intercept = (request, response) => {
    const isWanted = folder !== undefined && request.url.startsWith(folder);
    if (isWanted) response.writeHead(302, { Location: `/models/whole/${request.url.slice(folder.length)}` }).end();
    return isWanted;
  };
  for (const [address, [model, revision, path]] of Object.entries(PAGES)) {
    folder = path;
    const found = await run(async (address, plain) => {
      try {
        const options = { device: "wasm", cache: false, remote_host: location.origin };
        const generator = await gpt2.createGenerator(address, options);
        await generator.dispose();
        return [generator.info.model, generator.info.revision];
      } catch (error) {
        return plain(error);
      }
    }, address);
    assert.deepEqual(found, [model, revision], address);
  }
  served.hooks.intercept = undefined;
  for (const wrong of ["https://huggingface.co/datasets/some/texts", "https://huggingface.co/"]) {
    const error = await run((wrong, plain) => gpt2.createGenerator(wrong).catch(plain), wrong);
    assert.deepEqual([error.code, error.option], ["invalid_option", "model"], wrong);
  }
});

/** Loads files of the demo model from disk, each under the path that the entries give. */
const loadChosen = (paths, how = "record") =>
  run(
    async ({ paths, how }, plain) => {
      try {
        const files = [];
        for (const path of paths) {
          const name = path.split("/").at(-1);
          const response = await fetch(`/models/whole/${name}`);
          files.push([path, response.ok ? await response.blob() : new Blob(["?"])]);
        }
        const asFile = ([path, blob]) => {
          const file = new File([blob], path.split("/").at(-1));
          Object.defineProperty(file, "webkitRelativePath", { value: path });
          return file;
        };
        const chosen = how === "record" ? Object.fromEntries(files) : files.map(asFile);
        const generator = await gpt2.createGenerator({ files: chosen }, { device: "wasm" });
        await generator.dispose();
        return "loaded";
      } catch (error) {
        return plain(error);
      }
    },
    { paths, how },
  );

const NAMES = ["config.json", "tokenizer.json", "model.safetensors"];
const under = (folder, names = NAMES) => names.map((name) => `${folder}${name}`);

test("of a folder's files the shallowest checkpoint is taken", async () => {
  for (const how of ["record", "list"]) {
    assert.equal(
      await loadChosen([...under("all/gpt2/"), ...under("all/gpt2/checkpoint-5/"), "all/notes.txt"], how),
      "loaded",
    );
    assert.equal(await loadChosen([...under("a/", ["config.json"]), ...under("a/b/c/")], how), "loaded");
    const several = await loadChosen([...under("all/one/"), ...under("all/two/")], how);
    assert.deepEqual([several.code, several.option], ["invalid_option", "model.files"]);
    assert.match(several.message, /all\/one\/, all\/two\//);
  }
});

test("files that cannot be used are named, with what would help", async () => {
  const base = ["config.json", "tokenizer.json"];
  for (const [name, words] of [
    ["tf_model.h5", /tf_model\.h5: weights for TensorFlow.*save_pretrained/],
    ["flax_model.msgpack", /flax_model\.msgpack: weights for Flax/],
    ["gpt2.Q4_K_M.gguf", /gpt2\.Q4_K_M\.gguf: a llama\.cpp model/],
  ]) {
    const error = await loadChosen([...base, name]);
    assert.deepEqual([error.code, error.file], ["checkpoint", "model.safetensors"]);
    assert.match(error.message, words);
  }
  const error = await loadChosen(["config.json", "model.safetensors", "spiece.model"]);
  assert.match(error.message, /^tokenizer\.json: expected .* but spiece\.model: a sentencepiece model/);
});

test("objects of another frame are what they are", async () => {
  const found = await run(async (_, plain) => {
    const frame = document.body.appendChild(document.createElement("iframe")).contentWindow;
    try {
      const files = {};
      for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
        files[name] = new frame.Blob([await (await fetch(`/models/whole/${name}`)).arrayBuffer()]);
      }
      const { signal } = new frame.AbortController();
      const worker = new frame.Worker(new URL("/package/dist/worker.js", location.href).href, { type: "module" });
      const generator = await gpt2.createGenerator({ files }, { device: "wasm", signal, worker });
      const ids = frame.Uint32Array.of(1, 2, 3);
      const { token_ids } = await generator.complete(ids, { max_new_tokens: 2, eos_token_id: null, signal });
      await generator.dispose();
      return token_ids.length;
    } catch (error) {
      return plain(error);
    } finally {
      frame.frameElement.remove();
    }
  });
  assert.equal(found, 2);
});

test("a cancel rejects with the signal's own reason", async () => {
  served.hooks.intercept = (request) => request.url.endsWith("model.safetensors"); // never answered
  const found = await run(async () => {
    const load = (signal) =>
      gpt2.createGenerator("/models/whole", { device: "wasm", cache: false, signal }).then(
        () => "loaded",
        (error) => error,
      );
    const timeout = await load(AbortSignal.timeout(300));
    const own = new Error("no more");
    const controller = new AbortController();
    setTimeout(() => controller.abort(own), 300);
    const given = await load(controller.signal);
    const plain = new AbortController();
    plain.abort();
    const aborted = await load(plain.signal);
    return [timeout instanceof DOMException, timeout.name, given === own, aborted.name];
  });
  served.hooks.intercept = undefined;
  assert.deepEqual(found, [true, "TimeoutError", true, "AbortError"]);
  const generated = await run(async () => {
    const generator = await gpt2.createGenerator("/models/whole", { device: "wasm" });
    const name = (signal) =>
      generator
        .complete("x", { signal, max_new_tokens: 100_000, eos_token_id: null, context_overflow: "slide" })
        .catch((e) => e.name);
    const names = [await name(AbortSignal.timeout(100)), await name(AbortSignal.abort())];
    await generator.dispose();
    return names;
  });
  assert.deepEqual(generated, ["TimeoutError", "AbortError"]);
});
