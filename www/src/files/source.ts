/** Finds out where the files of a model are from how the caller names it. Runs in the page's thread. */

import { invalidOption } from "../api/errors.js";
import type { WireModel } from "../api/messages.js";
import type { CreateGeneratorOptions, ModelSource } from "../api/types.js";
import { VERSION } from "../api/version.js";
import { demoFiles } from "./assets.js";

const HUB = "https://huggingface.co/";
/** Stands for the demo model's folder, which it has not in every build. */
const DEMO = "gpt2-web://demo/";
const TEMPLATE = "{model}/resolve/{revision}/";

type Location = Pick<CreateGeneratorOptions, "revision" | "remote_host" | "remote_path_template">;

/** Resolves a model to something that a worker can load. */
export function resolve(model: ModelSource, options: Location): WireModel {
  if (typeof model === "object" && "files" in model) return fromFiles(model.files);
  const text = String(model).trim();
  if (text === "demo") {
    return { kind: "url", name: "demo", revision: VERSION, base: DEMO, files: demoFiles() };
  }
  if (
    /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ||
    text.startsWith("/") ||
    text.startsWith("./") ||
    text.startsWith("../")
  ) {
    const base = new URL(text, globalThis.location?.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    return { kind: "url", name: text, revision: options.revision ?? "main", base: base.href };
  }
  // The hub's own rule: letters, digits and - _ . with at most one slash between them.
  if (!/^[\w][\w.-]*(\/[\w][\w.-]*)?$/.test(text)) {
    throw invalidOption(
      "model",
      '"demo", a Hugging Face id such as "openai-community/gpt2", a URL, or { files }',
      text,
    );
  }
  const revision = options.revision ?? "main";
  const path = (options.remote_path_template ?? TEMPLATE)
    .replaceAll("{model}", text)
    .replaceAll("{revision}", encodeURIComponent(revision));
  const host = String(options.remote_host ?? HUB).replace(/\/*$/, "/");
  if (!isUrl(host)) throw invalidOption("remote_host", "an absolute URL", host);
  const base = new URL(path.replace(/^\/+/, "").replace(/\/*$/, "/"), host);
  return { kind: "url", name: text, revision, base: base.href };
}

/** Whether a text is a URL, perhaps one relative to `base`. */
export function isUrl(text: string, base?: string): boolean {
  try {
    new URL(text, base);
    return true;
  } catch {
    return false;
  }
}

function fromFiles(files: Iterable<File> | Record<string, Blob>): WireModel {
  const isList = Symbol.iterator in files;
  const entries: [string, Blob][] = isList ? [...files].map((file) => [file.name, file]) : Object.entries(files);
  for (const [name, blob] of entries) {
    if (!(blob instanceof Blob)) throw invalidOption("model.files", `a File or Blob for "${name}"`, typeof blob);
  }
  if (entries.length === 0) throw invalidOption("model.files", "the files of a checkpoint", "none");
  return { kind: "files", name: "files", files: new Map(entries) };
}

/** The cache's key for a model: where it is from and which revision. */
export function cacheKey(model: WireModel): string {
  if (model.kind === "files") throw invalidOption("model", "a model with an address", "files");
  return `${model.base}#${model.revision}`;
}
