/** Files of a model from disk: the picker, and files or folders dropped anywhere on the page. */
import { byId } from "./dom.js";

/** Names that belong to a checkpoint; the rest of a dropped folder (images, other formats) is left alone. */
const WANTED = /\.(json|safetensors)$|^merges\.txt$/;

function filesIn(entry: FileSystemEntry): Promise<File[]> {
  return new Promise((resolve, reject) => {
    if (entry.isFile) {
      (entry as FileSystemFileEntry).file((file) => resolve([file]), reject);
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    const found: Promise<File[]>[] = [];
    const readOn = (): void => {
      // A reader gives at most 100 entries a time; an empty answer is the end.
      reader.readEntries((entries) => {
        if (entries.length === 0) {
          Promise.all(found).then((lists) => resolve(lists.flat()), reject);
          return;
        }
        // Only the files of the folder itself: those in folders below it (onnx/, coreml/) are of other formats.
        for (const child of entries) if (child.isFile && WANTED.test(child.name)) found.push(filesIn(child));
        readOn();
      }, reject);
    };
    readOn();
  });
}

async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  // Entries have to be taken before the first await: the transfer is empty afterwards.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return [...transfer.files];
  const lists = await Promise.all(entries.map(filesIn));
  return lists.flat();
}

/** Calls `chosen` with the files of every pick or drop, and `failed` where a drop could not be read. */
export function startFiles(chosen: (files: File[]) => void, failed: (error: unknown) => void): void {
  const input = byId("files", HTMLInputElement);
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    // Emptied, so that choosing the same files again is a change too.
    input.value = "";
    if (files.length > 0) chosen(files);
  });

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
      if (files.length > 0) chosen(files);
      else failed(new Error("nothing in what was dropped is a file of a model"));
    }, failed);
  });
}
