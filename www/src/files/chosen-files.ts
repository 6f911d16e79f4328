/** Files that the user has chosen from disk: which of them are the checkpoint, or the LoRA adapter. */

import { invalidOption } from "../api/errors.js";
import type { WireModel } from "../api/messages.js";

/** A file with the path that it has below what was chosen. */
interface Chosen {
  path: string;
  blob: Blob;
}

/** Whether a value is a `Blob`, of whichever frame: those of another frame are no instances of this one's class. */
function isBlob(value: unknown): value is Blob {
  const blob = value as Partial<Blob> | null;
  return typeof blob === "object" && typeof blob?.stream === "function" && typeof blob.size === "number";
}

/**
 * The shallowest folder that holds a checkpoint, or a LoRA adapter, out of everything that was chosen.
 *
 * @throws InvalidOptionError if that is none or several, which it lists.
 */
export function fromFiles(
  files: Iterable<File> | Record<string, Blob>,
  what: "model" | "adapter" = "model",
): WireModel {
  const [option, wanted] = what === "model" ? ["model.files", "checkpoint"] : ["adapter.files", "LoRA adapter"];
  const entries = Symbol.iterator in files ? [...files].map((file) => [pathOf(file), file]) : Object.entries(files);
  const chosen = (entries as [string, unknown][]).map(([path, blob]): Chosen => {
    if (!isBlob(blob)) throw invalidOption(option, `a File or Blob for "${path}"`, typeof blob);
    return { path: path.replaceAll("\\", "/").replace(/^(\.?\/)+/, ""), blob };
  });
  if (chosen.length === 0) throw invalidOption(option, `the files of a ${wanted}`, "none");
  const folder = onlyFolder(chosen, CONFIGS[what], (several) => {
    throw invalidOption(option, `one ${wanted}`, `several: ${several.sort().join(", ")}`);
  });
  const own = new Map<string, Blob>();
  for (const { path, blob } of chosen.filter(({ path }) => folderOf(path) === folder)) {
    const name = path.slice(folder.length);
    if (own.has(name)) throw invalidOption(option, `the files of one ${wanted}`, `two files named ${name}`);
    own.set(name, blob);
  }
  return { kind: "files", name: "files", files: own };
}

/** A file's path in the folder that was chosen with it, else its name. */
function pathOf(file: File): string {
  return file?.webkitRelativePath || file?.name;
}

/** The folder's path with a slash at its end, or `""`. */
function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

/** The name of the file that every folder of its kind has, at the end of a path. */
const CONFIGS = { model: /(^|\/)config\.json$/, adapter: /(^|\/)adapter_config\.json$/ };
const isWeights = (path: string) => /\.(safetensors|bin)(\.index\.json)?$|\.packed$/.test(path);

function onlyFolder(chosen: Chosen[], config: RegExp, refuse: (several: string[]) => never): string {
  const having = (is: (path: string) => boolean) =>
    new Set(chosen.filter((c) => is(c.path)).map((c) => folderOf(c.path)));
  const [configs, weights] = [having((path) => config.test(path)), having(isWeights)];
  // What is whole has both. Where no folder has, what is missing is told by whoever opens it.
  const whole = [...configs].filter((folder) => weights.has(folder));
  const candidates = whole.length > 0 ? whole : configs.size > 0 ? [...configs] : [...having(() => true)];
  const depth = (folder: string) => folder.split("/").length;
  const least = Math.min(...candidates.map(depth));
  const shallowest = candidates.filter((folder) => depth(folder) === least);
  const [folder] = shallowest;
  if (folder === undefined || shallowest.length > 1) return refuse(shallowest);
  return folder;
}
