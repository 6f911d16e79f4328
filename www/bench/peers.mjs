// The package beside transformers.js and wllama, in one run on one machine: `./build.sh bench peers [options]`.
//
//   --only REGEX   which cases, e.g. '_q8_wasm_t1$' (the default is every CPU case with one thread)
//   --reps N       repetitions of each measurement (3)
//
// harness.mjs says where the harness is looked for.
import { parseArgs } from "node:util";
import { runHarness, whyNoHarness } from "./harness.mjs";

const { values } = parseArgs({
  options: { only: { type: "string", default: "_wasm_t1$" }, reps: { type: "string", default: "3" } },
});
const why = whyNoHarness();
if (why) {
  console.error(why);
  process.exit(1);
}
report(runHarness({ ...values, hasOurs: true }));

/** A table of all cases, then ours over the best peer. */
function report(cases) {
  const columns = [
    ["prefill 32", (r) => r.prefill_tok_s?.[32]?.max],
    ["128", (r) => r.prefill_tok_s?.[128]?.max],
    ["512", (r) => r.prefill_tok_s?.[512]?.max],
    ["decode after 32", (r) => r.decode_tok_s?.[32]?.max],
    ["after 512", (r) => r.decode_tok_s?.[512]?.max],
    ["ready cold, s", (r) => r.cold_ready_ms / 1000],
    ["warm, s", (r) => r.warm_ready_ms / 1000],
    ["renderer peak, MB", (r) => r.renderer_peak_mb],
    ["code, MB", (r) => r.code_bytes / 1e6],
  ];
  const line = (cells) => console.log(`| ${cells.join(" | ")} |`);
  const shown = (x) => (Number.isFinite(x) ? x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0) : "-");
  const whole = cases.filter((r) => r.prefill_tok_s);
  for (const r of cases.filter((r) => !r.prefill_tok_s)) console.log(`${r.peer} ${r.dtype}: failed: ${r.error}`);
  console.log("\ntokens per second, best of the repetitions; t: threads\n");
  line(["", "dtype", "t", ...columns.map(([name]) => name)]);
  line(["", "", "", ...columns].map(() => "---"));
  for (const r of whole) line([r.peer, r.dtype, r.threads, ...columns.map(([, value]) => shown(value(r)))]);
  const peers = whole.filter((r) => r.peer !== "ours");
  for (const ours of peers.length ? whole.filter((r) => r.peer === "ours") : []) {
    const rivals = peers.filter((r) => r.threads === ours.threads);
    const ratio = ([name, value]) => {
      const best =
        name.includes("s", name.length - 1) || name.includes("MB")
          ? Math.min(...rivals.map(value))
          : Math.max(...rivals.map((r) => value(r) ?? 0));
      return shown(value(ours) / best);
    };
    line(["ours / best peer at any dtype", ours.dtype, ours.threads, ...columns.map(ratio)]);
  }
}
