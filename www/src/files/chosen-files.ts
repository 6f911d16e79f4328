/** Files that the user has chosen from disk: which of them are the checkpoint. */

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
 * The shallowest folder that holds a checkpoint, out of everything that was chosen.
 *
 * @throws InvalidOptionError if that is none or several, which it lists.
 */
export function fromFiles(files: Iterable<File> | Record<string, Blob>): WireModel {
  const entries = Symbol.iterator in files ? [...files].map((file) => [pathOf(file), file]) : Object.entries(files);
  const chosen = (entries as [string, unknown][]).map(([path, blob]): Chosen => {
    if (!isBlob(blob)) throw invalidOption("model.files", `a File or Blob for "${path}"`, typeof blob);
    return { path: path.replaceAll("\\", "/").replace(/^(\.?\/)+/, ""), blob };
  });
  if (chosen.length === 0) throw invalidOption("model.files", "the files of a checkpoint", "none");
  const folder = checkpointFolder(chosen);
  const own = new Map<string, Blob>();
  for (const { path, blob } of chosen.filter(({ path }) => folderOf(path) === folder)) {
    const name = path.slice(folder.length);
    if (own.has(name)) throw invalidOption("model.files", "the files of one checkpoint", `two files named ${name}`);
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

const isConfig = (path: string) => /(^|\/)config\.json$/.test(path);
const isWeights = (path: string) => /\.(safetensors|bin)(\.index\.json)?$|\.packed$/.test(path);

function checkpointFolder(chosen: Chosen[]): string {
  const having = (is: (path: string) => boolean) =>
    new Set(chosen.filter((c) => is(c.path)).map((c) => folderOf(c.path)));
  const [configs, weights] = [having(isConfig), having(isWeights)];
  // A checkpoint has both. Where no folder has, what is missing is told by whoever opens it.
  const whole = [...configs].filter((folder) => weights.has(folder));
  const candidates = whole.length > 0 ? whole : configs.size > 0 ? [...configs] : [...having(() => true)];
  const depth = (folder: string) => folder.split("/").length;
  const least = Math.min(...candidates.map(depth));
  const shallowest = candidates.filter((folder) => depth(folder) === least);
  const [folder] = shallowest;
  if (folder === undefined || shallowest.length > 1) {
    throw invalidOption("model.files", "one checkpoint", `several: ${shallowest.sort().join(", ")}`);
  }
  return folder;
}
