/** Files or folders of a model that are dropped anywhere on the page. */
import { byId } from "./dom.js";

/** Files by the path that each has below what was dropped. */
type Dropped = [path: string, file: File][];

/** Folders below a dropped one are looked into so far: a checkpoint mostly lies in one of them. */
const MAX_DEPTH = 3;

function filesIn(entry: FileSystemEntry, depth = 0): Promise<Dropped> {
  return new Promise((resolve, reject) => {
    if (entry.isFile) {
      (entry as FileSystemFileEntry).file((file) => resolve([[entry.fullPath, file]]), reject);
      return;
    }
    if (depth > MAX_DEPTH) return resolve([]);
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    const found: Promise<Dropped>[] = [];
    const readOn = (): void => {
      // A reader gives at most 100 entries a time; an empty answer is the end.
      reader.readEntries((entries) => {
        if (entries.length === 0) {
          Promise.all(found).then((lists) => resolve(lists.flat()), reject);
          return;
        }
        // Of all of them, the package takes those of the shallowest checkpoint.
        for (const child of entries) found.push(filesIn(child, depth + 1));
        readOn();
      }, reject);
    };
    readOn();
  });
}

async function droppedFiles(transfer: DataTransfer): Promise<Record<string, File>> {
  // Entries have to be taken before the first await: the transfer is empty afterwards.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return Object.fromEntries([...transfer.files].map((file) => [file.name, file]));
  const lists = await Promise.all(entries.map((entry) => filesIn(entry)));
  return Object.fromEntries(lists.flat());
}

/** Calls `chosen` with the files of every drop, and `failed` where one could not be read. */
export function startDrops(chosen: (files: Record<string, File>) => void, failed: (error: unknown) => void): void {
  const veil = byId("drop", HTMLDivElement);
  const brings = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    // The event has no relatedTarget only when the pointer leaves the window.
    if (event.relatedTarget === null) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!brings(event) || event.dataTransfer === null) return;
    event.preventDefault();
    veil.hidden = true;
    droppedFiles(event.dataTransfer).then((files) => {
      if (Object.keys(files).length > 0) chosen(files);
      else failed(new Error("nothing in what was dropped is a file"));
    }, failed);
  });
}
