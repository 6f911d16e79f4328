// Connections on which nothing comes, tabs that wait for each other, and what is told of progress. In a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BIG, BIG_WEIGHTS, serveBigModel } from "./big-model.mjs";
import { openStageWithFreshTab } from "./stage.mjs";
import { loadAndWrite, untilStored } from "./tab.mjs";
import { until, untilInPage } from "./until.mjs";

const stage = await openStageWithFreshTab();
const server = serveBigModel(stage);

/** The 30 seconds that a silent server is given are half a second for the test's worker. */
function hasten() {
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (what, ms, ...rest) => setTimeout(what, ms === 30_000 ? 500 : ms, ...rest);
}

/** Loads in a worker in which time is short. → the events, and what is told of the error */
const loadHastily = (page, options = {}) =>
  page.evaluate(
    async ([model, options, hasten]) => {
      window.events = [];
      const progress_callback = (event) => window.events.push(event);
      const more = { worker: workerAfter(hasten), progress_callback, ...options };
      try {
        const generator = await gpt2.createGenerator(model, { device: "wasm", ...more });
        await generator.dispose();
        return { events: window.events };
      } catch (error) {
        return { code: error.code, message: error.message };
      }
    },
    [BIG, options, hasten.toString()],
  );

test("a connection on which nothing comes any more is given up, and the download goes on", async () => {
  server.holdAfter = 9 << 20;
  const loading = loadHastily(stage.page);
  await until("the connection is given up", () => server.answers.length > 0 && server.nOpen === 0);
  server.release();
  const { events, message } = await loading;
  assert.ok(events, message);
  assert.deepEqual(
    server.answers.map(({ from }) => from),
    [0, 9 << 20],
  );
});

test("an answer that does not begin is given up, and asked for again", async () => {
  const { intercept } = stage.served.hooks;
  let nSilent = 0;
  stage.served.hooks.intercept = (request, response) => {
    if (request.url !== BIG_WEIGHTS || request.method === "HEAD" || nSilent === 2) return intercept(request, response);
    nSilent += 1;
    return true;
  };
  try {
    const { events, message } = await loadHastily(stage.page, { cache: false });
    assert.ok(events, message);
    assert.equal(nSilent, 2);
  } finally {
    stage.served.hooks.intercept = intercept;
  }
});

test("a tab that waits for another says so, and how far that is", async () => {
  server.holdAfter = 9 << 20;
  const other = await stage.tab();
  const first = loadAndWrite(stage.page, BIG);
  await untilStored(stage.page, BIG, 8 << 20);
  const second = loadHastily(other);
  await untilInPage(other, "the waiting tab knows how far the other is", () =>
    (window.events ?? []).some((event) => event.phase === "wait" && event.progress > 0 && event.loaded > 0),
  );
  server.release();
  assert.ok((await first).text);
  const { events, message } = await second;
  assert.ok(events, message);
  const waits = events.filter((event) => event.phase === "wait");
  assert.ok(waits.every((event) => event.status === "progress_total" && event.name === BIG));
  assert.equal(events.at(-1).status, "ready");
});

test("the progress of all is the share of all bytes, known before the first file has come", async () => {
  const { events, message } = await loadHastily(stage.page);
  assert.ok(events, message);
  const totals = events.filter((event) => event.status === "progress_total" && event.phase !== "wait");
  assert.deepEqual([totals[0].progress, totals.at(-1).progress], [0, 100]);
  assert.ok(totals.every((event) => event.progress !== null));
  const whole = totals.at(-1).loaded;
  assert.ok(whole > server.bytes.length);
  for (const { loaded, total, progress } of totals.slice(1)) {
    if (loaded > 0)
      assert.ok(total === whole && Math.abs(progress - (100 * loaded) / whole) < 8, `${progress} ${loaded}`);
  }
});

test("while sizes are not known, there is no share", async () => {
  const { intercept } = stage.served.hooks;
  stage.served.hooks.intercept = (request, response) => {
    if (request.url !== BIG_WEIGHTS) return intercept(request, response);
    response.writeHead(200, { ETag: '"x"' });
    if (request.method === "HEAD") return response.end();
    response.write(server.bytes.subarray(0, 1 << 20)); // a body in pieces has no length
    return response.end(server.bytes.subarray(1 << 20));
  };
  try {
    const { events, message } = await loadHastily(stage.page, { cache: false });
    assert.ok(events, message);
    const totals = events.filter((event) => event.status === "progress_total" && event.loaded > 1000);
    assert.ok(
      totals.some((event) => event.progress === null),
      JSON.stringify(totals.slice(0, 5)),
    );
    assert.equal(totals.at(-1).progress, 100);
  } finally {
    stage.served.hooks.intercept = intercept;
  }
});

test("what is done besides fetching is told from beginning to end", async () => {
  const first = await loadHastily(stage.page);
  const ends = (events, phase) =>
    events.filter((event) => event.phase === phase && event.status === "progress").map((event) => event.progress);
  assert.ok(first.events, first.message);
  const convert = ends(first.events, "convert");
  assert.deepEqual([convert[0], convert.at(-1)], [0, 100]);
  const verify = ends(first.events, "verify");
  assert.deepEqual([verify[0], verify.at(-1)], [0, 100]);
  const again = await loadHastily(stage.page);
  const upload = ends(again.events, "upload");
  assert.deepEqual([upload[0], upload.at(-1)], [0, 100], "packed weights go to the engine's memory");
});
