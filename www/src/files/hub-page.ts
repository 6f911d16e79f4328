/** Addresses of pages and files on a Hugging Face hub, as they are pasted from a browser. */

import { invalidOption } from "../api/errors.js";

/** Which model a page is about. */
export interface HubPage {
  /** The model's id. */
  id: string;
  /** The branch, tag or commit that the page shows, if it names one. */
  revision: string | undefined;
  /** The folder below the model's own, with a slash at its end; mostly `""`. */
  folder: string;
}

/** Kinds of pages whose address begins as that of a model that has an owner, but that are about something else. */
const NOT_MODELS = /^(datasets|spaces|models|docs|api|blog|papers|collections|organizations|settings|tasks|learn)$/;

/** A hub's address without or with a scheme, then the path. */
const PAGE = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)(?:\/([^?#]*))?(?:[?#].*)?$/i;

/** The model that the address of a page or of a file on the hub is about; `null` for every other text. */
export function hubPage(text: string): HubPage | null {
  const page = PAGE.exec(text);
  if (!page) return null;
  const parts = (page[1] ?? "").split("/").filter((part) => part !== "");
  const at = parts.findIndex((part, i) => i > 0 && /^(tree|blob|resolve|raw|commit|commits|discussions)$/.test(part));
  const [id, rest] = at < 0 ? [parts, []] : [parts.slice(0, at), parts.slice(at)];
  if (id.length < 1 || id.length > 2 || NOT_MODELS.test(id[0] ?? "")) {
    throw invalidOption("model", "the address of a model on the hub, such as https://huggingface.co/gpt2", text);
  }
  const [kind, revision, ...path] = rest.map(decode);
  // A discussion's number is no revision, and a list of commits is of the branch that it names.
  const hasRevision = kind !== undefined && kind !== "discussions";
  // A blob is a file; of the others a last part with a dot is taken for one only where it is a file of a checkpoint.
  const isFile = kind === "blob" || kind === "raw" || /\.(json|safetensors|bin|txt)$/.test(path.at(-1) ?? "");
  const folders = isFile ? path.slice(0, -1) : path;
  return {
    id: id.map(decode).join("/"),
    revision: hasRevision ? revision : undefined,
    folder: folders.map((folder) => `${encodeURIComponent(folder)}/`).join(""),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
