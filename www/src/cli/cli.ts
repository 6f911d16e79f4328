/** The program `gpt2-web`: what is typed, what is shown, and how it ends. Runs in Node. */

import { parseArgs } from "node:util";
import { invalidOption, isAbort, messageOf } from "../api/errors.js";
import { VERSION } from "../api/version.js";
import { type Converted, convert } from "./convert.js";
import { ProgressLine } from "./progress-line.js";

const USAGE = `gpt2-web convert MODEL --out FOLDER [options]

Packs a model's weights beforehand, so that a page fetches less and has nothing to convert. FOLDER, served by any static
host, is then a model: createGenerator("https://…/FOLDER/").

MODEL                   a Hugging Face id, the URL of a folder, a folder on disk, or "demo"
  --out FOLDER          a new or empty folder, or one in which this very conversion was begun
  --dtype NAME          fp32, fp16, q8 or q4 (default: q8)
  --revision NAME       branch, tag or commit of a Hugging Face model (default: main)
  --remote-host URL     where Hugging Face ids are looked for (default: https://huggingface.co/)
  --original MODEL      where pages find the original if they need another dtype or layout (default: MODEL, unless it is
                        a folder on disk)
  --no-original         names no original
  --help, --version

A conversion that was interrupted goes on where it stopped when the same command is given again.`;

const OPTIONS = {
  out: { type: "string" },
  dtype: { type: "string", default: "q8" },
  revision: { type: "string" },
  "remote-host": { type: "string" },
  original: { type: "string" },
  "no-original": { type: "boolean" },
  help: { type: "boolean" },
  version: { type: "boolean" },
} as const;

/** Exit statuses, as shells know them. */
const [FAILED, WRONG_USE, INTERRUPTED] = [1, 2, 130];

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: true });
  } catch (error) {
    throw invalidOption("arguments", "those of `gpt2-web --help`", messageOf(error));
  }
}

function checked({ values, positionals }: ReturnType<typeof parse>) {
  const [command, model, ...others] = positionals;
  if (command !== "convert") throw invalidOption("command", '"convert"', command ?? "none");
  if (model === undefined) throw invalidOption("model", "what to convert, such as openai-community/gpt2", "none");
  if (others.length > 0) throw invalidOption("model", "one model", positionals.slice(1).join(" "));
  if (values.out === undefined) throw invalidOption("--out", "a folder", "none");
  if (values.original !== undefined && values["no-original"]) {
    throw invalidOption("--original", "this or --no-original", "both");
  }
  return {
    model,
    out: values.out,
    dtype: values.dtype,
    revision: values.revision,
    remoteHost: values["remote-host"],
    original: values["no-original"] ? null : values.original,
  };
}

const say = (text: string) => process.stdout.write(`${text}\n`);
const complain = (text: string) => process.stderr.write(`gpt2-web: ${text}\n`);

function tell({ folder, bytes, files, warnings, hasLicence }: Converted): void {
  for (const warning of warnings) complain(`warning: ${warning}`);
  if (!hasLicence) complain("warning: no licence file was found beside the model; see that yours may be published");
  say(`${folder}: ${(bytes / 1e6).toFixed(1)} MB in ${files.length} files`);
  for (const file of files) say(`  ${file}`);
}

async function main(args: string[]): Promise<number> {
  const line = new ProgressLine(process.stderr);
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  process.once("SIGTERM", () => controller.abort());
  try {
    const parsed = parse(args);
    if (parsed.values.version) say(VERSION);
    else if (parsed.values.help || args.length === 0) say(USAGE);
    else {
      const { signal } = controller;
      const converted = await convert({ ...checked(parsed), signal, emit: (event) => line.show(event) });
      line.end();
      tell(converted);
    }
    return args.length === 0 ? WRONG_USE : 0;
  } catch (error) {
    line.end();
    if (isAbort(error)) {
      complain("interrupted; what has arrived is kept, and the same command goes on from there");
      return INTERRUPTED;
    }
    complain(messageOf(error));
    return (error as { code?: unknown }).code === "invalid_option" ? WRONG_USE : FAILED;
  }
}

process.exitCode = await main(process.argv.slice(2));
