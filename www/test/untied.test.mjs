// A checkpoint whose head is not its embedding although config.json says so: in a real browser, at each visit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FILES, openOddServer } from "./odd-server.mjs";
import { safetensors, tensorsOf } from "./safetensors.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite } from "./tab.mjs";

const WEIGHTS = "model.safetensors";
const stage = await openStageWithFreshTab();
const server = await openOddServer();

test("a head of its own under a tied configuration is used, with a warning, and kept apart", async () => {
  const tensors = tensorsOf(FILES[WEIGHTS]);
  const [, embedding] = tensors.find(([name]) => name.endsWith("wte.weight"));
  // The rows the other way round, so that each token has the logit of another.
  const rowBytes = embedding.data.length / embedding.shape[0];
  const rows = Array.from({ length: embedding.shape[0] }, (_, i) =>
    embedding.data.subarray(i * rowBytes, (i + 1) * rowBytes),
  );
  const head = { ...embedding, data: Buffer.concat(rows.reverse()) };
  const untied = safetensors([...tensors, ["lm_head.weight", head]]);
  server.set((_request, _response, wanted) => {
    if (wanted.file === WEIGHTS) wanted.bytes = untied;
    return false;
  });
  const tied = await loadAndWrite(stage.page, "demo", { cache: false });
  for (const cache of [false, true, true]) {
    if (cache) server.asked.length = 0;
    const { text, warnings, message } = await loadAndWrite(stage.page, server.url, { cache });
    assert.ok(text, message);
    assert.notEqual(text, tied.text);
    assert.match(warnings.join(), /config\.json ties the head to the embedding/);
  }
  assert.ok(!server.asked.some(({ file }) => file === WEIGHTS), "the packed weights are found");
});
