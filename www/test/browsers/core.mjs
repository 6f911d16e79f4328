// The core tests: what must work in every browser, by clicks and keys where a person would use them.
import assert from "node:assert/strict";
import { cpSync, readFileSync } from "node:fs";
import path from "node:path";
import { WWW, withoutIsolation } from "../site.mjs";
import { until } from "../until.mjs";
import * as inPage from "./in-page.mjs";

const GOLDEN = path.join(WWW, "../tests/golden/models/base");
const { ids, greedy } = JSON.parse(readFileSync(path.join(GOLDEN, "expected.json"), "utf8"));

/**
 * What the tests run in.
 *
 * @typedef {object} Stage
 * @property {import("./open.mjs").Tab} tab may be set later
 * @property {Awaited<ReturnType<typeof import("../site.mjs").site>>} served the packed package
 * @property {string} pageUrl where the project's own page is
 */

/**
 * @param {Stage} stage
 * @returns {Record<string, () => Promise<void>>} each test by its name; they run in their order
 */
export function coreTests(stage) {
  const { served, pageUrl } = stage;
  const golden = `${served.url}models/golden/`;
  cpSync(GOLDEN, path.join(served.root, "models/golden"), { recursive: true });
  cpSync(path.join(WWW, "demo/tokenizer.json"), path.join(served.root, "models/golden/tokenizer.json"));
  /** The last parts of the paths that `action` fetches. */
  const fetchedBy = async (action) => {
    const nBefore = served.requests.length;
    await action();
    return served.requests.slice(nBefore).map((url) => path.basename(new URL(url, served.url).pathname));
  };
  const visit = () => stage.tab.goto(served.url);
  const run = (body, argument) => stage.tab.evaluate(body, argument);
  const write = (model, options, prompt = "The old king") => run(inPage.write, { model, prompt, options });
  const click = async (selector, part) => stage.tab.click(...(await run(inPage.middleOf, { selector, part })));
  /** Waits until a condition is true in the page. */
  const untilTrue = (what, condition) => until(what, () => run(condition));

  return {
    "writes what transformers writes, from a URL; a second visit fetches no weights": async () => {
      for (const isSecond of [false, true]) {
        await visit();
        let found;
        const fetched = await fetchedBy(async () => {
          found = await write(golden, { dtype: "fp32" }, ids);
        });
        assert.deepEqual(found.token_ids, greedy);
        assert.equal(fetched.includes("model.safetensors"), !isSecond, fetched.join());
      }
    },

    "stops, softly and not": async () => {
      await visit();
      const found = await run(inPage.stop);
      const abort = [true, "AbortError"];
      assert.deepEqual([found.abortError, found.brokenError, found.loadError], [abort, abort, abort]);
      assert.ok(found.nSeen >= 3 && found.nSeen < 200, `${found.nSeen} chunks`);
      assert.equal(found.finish_reason, "interrupt");
      assert.ok(found.nInterrupted >= 5 && found.nInterrupted < 200, `${found.nInterrupted} tokens`);
    },

    "lists and deletes what is kept": async () => {
      await visit();
      const { before, after, storage } = await run(inPage.tidy, golden);
      const kept = [{ complete: true, dtypes: ["fp32"], hasBytes: true }];
      assert.deepEqual(before, { kept, isCached: true, isHeld: true });
      assert.deepEqual(after, { kept: [], isCached: false, isHeld: false });
      assert.deepEqual(storage, ["number", "number"]);
    },

    "sessions go on, branch and rewind": async () => {
      await visit();
      const found = await run(inPage.converse);
      assert.equal(found.turns.join(""), found.whole);
      assert.equal(found.again, found.turns[0]);
      assert.equal(found.held, found.nPrompt + 8);
      assert.ok(found.appended > found.held, `${found.appended} tokens`);
    },

    "takes the kernels that fit, and two threads write what one does": async () => {
      await visit();
      const { relaxedSimd, isIsolated, canShare, processors } = await run(inPage.features);
      assert.deepEqual([isIsolated, canShare], [true, true]);
      assert.ok(processors >= 1, `${processors} processors`);
      const texts = [];
      for (const threads of [1, 2]) {
        const fetched = await fetchedBy(async () => texts.push(await write("demo", { threads })));
        const kernels = fetched.filter((name) => name.startsWith("kernels"));
        assert.deepEqual(kernels, [`kernels${relaxedSimd ? "-relaxed" : ""}-threads.wasm`]);
      }
      const [one, two] = texts;
      assert.deepEqual([one.threads, one.warnings], [1, []]);
      assert.deepEqual(two, { ...one, threads: 2 });
      assert.equal(one.token_ids.length, 20);
    },

    "a page that is not isolated has one thread, and says so": async () => {
      served.hooks.intercept = (_, response) => {
        withoutIsolation(response);
        return false;
      };
      try {
        await visit();
        assert.equal((await run(inPage.features)).isIsolated, false);
        const found = await write("demo", { threads: 2 });
        assert.equal(found.threads, 1);
        assert.deepEqual(found.warnings, ["threads: 1 instead of 2, since this page is not cross-origin isolated"]);
        assert.deepEqual((await write("demo", {})).warnings, [], "nobody asked for more");
        served.hooks.intercept = undefined;
        await visit();
        assert.deepEqual((await write("demo", { threads: 1 })).token_ids, found.token_ids);
      } finally {
        served.hooks.intercept = undefined;
      }
    },

    "errors have their types": async () => {
      await visit();
      const found = await run(inPage.provoke, `${served.url}models/`);
      const { checkpoint, option, environment, gpu } = found;
      assert.deepEqual(
        [checkpoint.classes, checkpoint.code, checkpoint.file],
        [["CheckpointError", "Gpt2Error"], "checkpoint", "model.safetensors"],
      );
      assert.deepEqual(
        [option.classes, option.code, option.option],
        [["Gpt2Error", "InvalidOptionError"], "invalid_option", "dtype"],
      );
      assert.deepEqual(environment.classes, ["Gpt2Error", "UnsupportedEnvironmentError"]);
      assert.deepEqual(environment.missing, ["SIMD in WebAssembly"]);
      if (gpu) assert.deepEqual(gpu.classes, ["Gpt2Error", "WebGPUNotAvailableError"]);
    },

    "<gpt2-generator> writes at a click": async () => {
      await visit();
      await run(inPage.showElements);
      await click("gpt2-generator", "#generate");
      await untilTrue("the generator has written", () => window.done !== undefined);
      const [written, shown] = await run(() => [
        window.done.text,
        document.querySelector("gpt2-generator").shadowRoot.textContent,
      ]);
      assert.ok(written.length > 0 && shown.includes(written), `${shown} shows not ${written}`);
    },

    "<gpt2-autocomplete> suggests, and Tab accepts": async () => {
      await visit();
      await run(inPage.showElements);
      await click("#note");
      await stage.tab.type("The old king");
      await untilTrue(
        "a suggestion is whole",
        () => document.querySelector("gpt2-autocomplete").state === "suggesting",
      );
      await stage.tab.press("Tab");
      const { value, isFocused } = await run(() => ({
        value: document.querySelector("#note").value,
        isFocused: document.activeElement?.id === "note",
      }));
      assert.ok(value.startsWith("The old king") && value.length > "The old king".length, value);
      assert.ok(isFocused, "the key that accepts leaves the field in use");
    },

    "the page writes, and stops": async () => {
      await stage.tab.goto(pageUrl);
      await untilTrue("the page is ready", () => document.documentElement.dataset.state === "ready");
      await run(inPage.stopAtFirstWords);
      await click("#generate");
      await untilTrue("a text has ended", () => document.querySelector("#outcome").textContent.includes("stopped"));
      const { outcome, text } = await run(() => ({
        outcome: document.querySelector("#outcome").textContent,
        text: document.querySelector("#mirror .by-model").textContent,
      }));
      assert.match(outcome, /stopped by you/);
      assert.ok(text.length > 0);
    },
  };
}
