// What the core tests run in the page: functions that reach nothing outside of themselves, of arguments that are JSON.

/** Loads a model and writes from a prompt, greedily. → what it wrote, and what `info` says */
export async function write({ model, prompt, options }) {
  const { createGenerator } = await import("/package/dist/index.js");
  const generator = await createGenerator(model, { device: "wasm", ...options });
  const { token_ids, text } = await generator.complete(prompt, {
    max_new_tokens: 20,
    do_sample: false,
    eos_token_id: null,
    context_overflow: "stop",
  });
  await generator.dispose();
  const { threads, warnings } = generator.info;
  return { token_ids, text, threads, warnings };
}

/** Cancels a text in each of the ways that there are. */
export async function stop() {
  const { createGenerator } = await import("/package/dist/index.js");
  const generator = await createGenerator("demo", { device: "wasm" });
  const long = { max_new_tokens: 200, do_sample: false, eos_token_id: null };
  const nameOf = (error) => [error instanceof DOMException, error.name];

  const controller = new AbortController();
  const aborted = generator.generate("The old king", { ...long, signal: controller.signal });
  let nSeen = 0;
  const readAll = async () => {
    for await (const _ of aborted) if (++nSeen === 3) controller.abort();
  };
  const abortError = await readAll().then(() => "no error", nameOf);

  const broken = generator.generate("The old king", long);
  for await (const _ of broken) break;
  const brokenError = await broken.result.then(() => "no error", nameOf);

  const soft = generator.generate("The old king", long);
  let nSoft = 0;
  for await (const _ of soft) if (++nSoft === 5) soft.interrupt();
  const { finish_reason, token_ids } = await soft.result;

  const load = createGenerator("demo", { signal: AbortSignal.abort() });
  const loadError = await load.then(() => "no error", nameOf);
  await generator.dispose();
  return { abortError, nSeen, brokenError, finish_reason, nInterrupted: token_ids.length, loadError };
}

/** Looks after what is kept of a model. */
export async function tidy(model) {
  const { createGenerator, deleteModel, estimate, isCached, listModels, storageEstimate } = await import(
    "/package/dist/index.js"
  );
  await (await createGenerator(model, { device: "wasm", dtype: "fp32" })).dispose();
  const own = async () => (await listModels()).filter(({ name }) => name === model);
  const state = async () => {
    const kept = (await own()).map(({ complete, dtypes, bytes }) => ({ complete, dtypes, hasBytes: bytes > 0 }));
    const { cached_bytes } = await estimate(model, { device: "wasm", dtype: "fp32" });
    return { kept, isCached: await isCached(model, { dtype: "fp32" }), isHeld: cached_bytes > 0 };
  };
  const before = await state();
  await deleteModel(model);
  const { usage, quota } = await storageEstimate();
  return { before, after: await state(), storage: [typeof usage, typeof quota] };
}

/** A session that goes on, branches and rewinds; and the same text in one go. */
export async function converse() {
  const { createGenerator } = await import("/package/dist/index.js");
  const generator = await createGenerator("demo", { device: "wasm" });
  const greedy = { max_new_tokens: 8, do_sample: false, eos_token_id: null };
  const whole = await generator.complete("The old king", { ...greedy, max_new_tokens: 16 });
  const session = generator.session();
  const first = await session.generate("The old king", greedy).result;
  const held = session.context_usage;
  const branch = session.clone();
  const second = await session.generate("", greedy).result;
  await branch.rewind(8);
  const again = await branch.generate("", greedy).result;
  await branch.append(" and");
  const appended = branch.context_usage;
  const nPrompt = await generator.tokenizer.count("The old king");
  await generator.dispose();
  return { whole: whole.text, turns: [first.text, second.text], again: again.text, nPrompt, held, appended };
}

/** What is thrown, as its class, code and details tell it. */
export async function provoke(models) {
  const gpt2 = await import("/package/dist/index.js");
  const classes = Object.entries(gpt2).filter(([name]) => name.endsWith("Error"));
  const seen = (error) => ({
    classes: classes.filter(([, type]) => error instanceof type).map(([name]) => name),
    code: error.code,
    file: error.file,
    option: error.option,
    status: error.status,
    missing: error.missing,
  });
  const of = (promise) => promise.then(() => "no error", seen);
  const checkpoint = await of(gpt2.createGenerator(`${models}no-weights/`));
  const option = await of(gpt2.createGenerator("demo", { dtype: "int8" }));
  const { validate } = WebAssembly;
  // a browser from before the baseline finds SIMD not valid
  WebAssembly.validate = () => false;
  const environment = await of(gpt2.createGenerator("demo"));
  WebAssembly.validate = validate;
  const gpu = "gpu" in navigator ? null : await of(gpt2.createGenerator("demo", { device: "webgpu" }));
  return { checkpoint, option, environment, gpu };
}

/** What this browser has of what the package chooses by. */
export function features() {
  // a function of `i8x16.relaxed_swizzle`
  const relaxed = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
    253, 128, 2, 11,
  ];
  return {
    relaxedSimd: WebAssembly.validate(new Uint8Array(relaxed)),
    isIsolated: crossOriginIsolated,
    canShare: typeof SharedArrayBuffer === "function",
    processors: navigator.hardwareConcurrency,
  };
}

/** Puts both elements into an empty page. */
export async function showElements() {
  await import("/package/dist/elements.js");
  document.body.innerHTML = `<gpt2-generator model="demo" device="wasm" max-new-tokens="12" prompt="The old king">
    </gpt2-generator><textarea id="note" rows="4" cols="60"></textarea>
    <gpt2-autocomplete for="note" device="wasm"></gpt2-autocomplete>`;
  document.querySelector("gpt2-generator").addEventListener("gpt2-done", ({ detail }) => (window.done = detail));
}

/** The middle of an element, that of a part of its shadow tree if one is named. → [x, y] */
export function middleOf({ selector, part }) {
  const host = document.querySelector(selector);
  const element = part === undefined ? host : host.shadowRoot.querySelector(part);
  element.scrollIntoView({ block: "center" });
  const { x, y, width, height } = element.getBoundingClientRect();
  if (!(width && height)) throw new Error(`${selector} ${part ?? ""} is not shown`);
  return [Math.round(x + width / 2), Math.round(y + height / 2)];
}

/** Has the project's page write a long text, and presses its button to stop as soon as some of it is shown. */
export function stopAtFirstWords() {
  const byId = (id) => document.getElementById(id);
  byId("max_new_tokens").value = "50000";
  byId("context_overflow").value = "slide";
  byId("seed").value = "1";
  const observer = new MutationObserver(() => {
    if (!document.querySelector("#mirror .by-model")) return;
    observer.disconnect();
    byId("stop").click();
  });
  observer.observe(byId("mirror"), { childList: true });
}
