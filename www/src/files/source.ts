/** Finds out where the files of a model are from how the caller names it. Runs in the page's thread. */

import { invalidOption } from "../api/errors.js";
import type { WireModel } from "../api/messages.js";
import type { CreateGeneratorOptions, ModelSource } from "../api/types.js";
import { VERSION } from "../api/version.js";
import { canParse, shownUrl } from "./address.js";
import { demoFiles } from "./assets.js";
import { fromFiles } from "./chosen-files.js";
import { type HubPage, hubPage } from "./hub-page.js";

const HUB = "https://huggingface.co/";
/** Stands for the demo model's folder, which it has not in every build. */
const DEMO = "gpt2-web://demo/";
const TEMPLATE = "{model}/resolve/{revision}/";

type Location = Pick<CreateGeneratorOptions, "revision" | "remote_host" | "remote_path_template">;

/** Resolves a model, or a LoRA adapter, to something that a worker can load. */
export function resolve(model: ModelSource, options: Location, what: "model" | "adapter" = "model"): WireModel {
  if (typeof model === "object" && "files" in model) return fromFiles(model.files, what);
  const text = String(model).trim();
  if (text === "demo" && what === "model") {
    return { kind: "url", name: "demo", revision: VERSION, base: DEMO, files: demoFiles() };
  }
  const page = hubPage(text);
  if (page) return onHub(page, options, what);
  if (/^([a-z][a-z0-9+.-]*:\/\/|\/|\.\.?\/)/i.test(text)) return atUrl(text, options, what);
  return onHub({ id: text, revision: undefined, folder: "" }, options, what);
}

/** A folder, given by its address or by that of its configuration. */
function atUrl(text: string, options: Location, what: "model" | "adapter"): WireModel {
  if (!canParse(text, globalThis.location?.href)) throw invalidOption(what, "the URL of a folder", text);
  const base = new URL(text, globalThis.location?.href);
  base.hash = "";
  base.pathname = base.pathname.replace(/\/(adapter_)?config\.json$/, "/");
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  // The name is shown and stands in recipes, so it has nothing of a signature.
  const name = canParse(text) ? shownUrl(text) : text.replace(/[?#].*$/s, "");
  return { kind: "url", name, revision: options.revision ?? "main", base: base.href };
}

function onHub({ id, revision: shown, folder }: HubPage, options: Location, what: "model" | "adapter"): WireModel {
  // The hub's own rule: letters, digits and - _ . with at most one slash between them.
  if (!/^[\w][\w.-]*(\/[\w][\w.-]*)?$/.test(id)) {
    const named = what === "model" ? '"demo", a Hugging Face id such as "openai-community/gpt2"' : "a Hugging Face id";
    throw invalidOption(what, `${named}, a URL, or { files }`, id);
  }
  if (shown !== undefined && options.revision !== undefined && shown !== options.revision) {
    throw invalidOption("revision", `"${shown}", as the model's address says, or none`, options.revision);
  }
  const revision = options.revision ?? shown ?? "main";
  const path = (options.remote_path_template ?? TEMPLATE)
    .replaceAll("{model}", id)
    .replaceAll("{revision}", encodeURIComponent(revision));
  const host = String(options.remote_host ?? HUB).replace(/\/*$/, "/");
  if (!canParse(host)) throw invalidOption("remote_host", "an absolute URL", host);
  const base = new URL(`${path.replace(/^\/+/, "").replace(/\/*$/, "/")}${folder}`, host);
  const name = folder === "" ? id : `${id}/${decodeURIComponent(folder).replace(/\/$/, "")}`;
  return { kind: "url", name, revision, base: base.href };
}

/** The cache's key for a model: where it is from and which revision, but nothing that signs its address. */
export function cacheKey(model: WireModel): string {
  if (model.kind === "files") throw invalidOption("model", "a model with an address", "files");
  return `${shownUrl(model.base)}#${model.revision}`;
}
