/** What gives the files of a checkpoint as streams of bytes, wherever they come from. Runs in the worker. */

import { makeError } from "../api/errors.js";
import type { StartHash } from "./hash.js";
import type { PublishedWeights } from "./manifest.js";
import type { HttpOptions, Refusal } from "./request.js";

/** An open file. */
export interface OpenFile {
  name: string;
  /** Size in bytes, where it is known. */
  bytes: number | null;
  /** Its bytes in order; each chunk is there until the next one is asked for. */
  chunks: AsyncIterable<Uint8Array>;
  /** Of packed weights: what was left out or replaced when they were made. */
  warnings?: string[];
}

/** A file's size, where it is known at least roughly, and how many of its bytes are in the cache. */
export interface FileSize {
  bytes: number | null;
  cached: number;
}

/** Packed weights to be kept. */
export interface PackedWeights {
  name: string;
  bytes: number;
  chunks: AsyncIterable<Uint8Array>;
  /** The files that they were made from. */
  replaces: string[];
  /** What was left out or replaced on the way. */
  warnings: string[];
}

/** Where a checkpoint's files come from. */
export interface Hub {
  /** Opens a file; `null` if there is none of that name. */
  open(file: string): Promise<OpenFile | null>;
  /**
   * A file's size, without reading it; `null` if there is none of that name. It is asked for so many times at most; the
   * default is as often as for a file itself.
   */
  size(file: string, maxAttempts?: number): Promise<FileSize | null>;
  /** What the server gave in the place of a file that could not be opened, if it did not just say that it has none. */
  refusal(file: string): Refusal | undefined;
  /** The names of all files, where they can be known. */
  names(): string[] | null;
  /** The packed weights that could be opened. */
  packedSizes(): Promise<{ name: string; bytes: number }[]>;
  /**
   * Says which files will be opened next, in that order, and how many bytes they have together. A hub with a cache
   * fetches several of them at once. If that fails, `open` throws, or the chunks of the file do.
   */
  prefetch(files: string[], bytes: number | null): void;
  /** Opens packed weights, such as `model.q8.v1.packed`, that are whole in the cache. Never asks the network. */
  openPacked(name: string): Promise<OpenFile | null>;
  /** Opens packed weights that the model's folder has; `null` if it has not. They are checked as they arrive. */
  openPublished(published: PublishedWeights): Promise<OpenFile | null>;
  /** Throws if a file that was opened came from the cache and is no longer what the server has. */
  confirm(file: string): Promise<void>;
  /**
   * Keeps packed weights. When they are whole, the files that they replace are forgotten, and so are
   * packed weights of the same kind in an older layout. If they cannot be kept, this is a warning and no error.
   */
  keepPacked(packed: PackedWeights): Promise<void>;
  /** Called when every file has been read to its end. */
  complete(): Promise<void>;
  /** Called when a file is malformed: a retry must not read the same bytes again. */
  drop(file: string): Promise<void>;
  /** Called when loading has ended or failed: nothing goes on in the background afterwards. */
  close(): Promise<void>;
}

/** What a hub needs to know. */
export interface HubOptions extends HttpOptions {
  cache: boolean;
  /** Whether the files are another version of a model that may be in the cache, which stays until these are whole. */
  isAnew: boolean;
  /** How the SHA-256 of a file is computed. */
  startHash: StartHash;
  /** Told how far the check of a file has got: so many more bytes, and at last that it has passed. */
  checking(file: string, nBytes: number, isDone: boolean): void;
  /** Takes a message about something that failed without stopping the load. */
  warn(message: string): void;
}

/** Reads a small text file whole. */
export async function readText(file: OpenFile): Promise<string> {
  return new TextDecoder().decode(await readBytes(file));
}

/** The largest real tokenizer.json is 2 MB. */
const MAX_SMALL_BYTES = 64 << 20;

/** Reads a small file whole. Fails where it turns out to be larger than `maxBytes`. */
export async function readBytes(file: OpenFile, maxBytes = MAX_SMALL_BYTES): Promise<Uint8Array<ArrayBuffer>> {
  let bytes = new Uint8Array(file.bytes === null ? 0 : Math.min(file.bytes, MAX_SMALL_BYTES));
  let nBytes = 0;
  for await (const chunk of file.chunks) {
    const end = nBytes + chunk.byteLength;
    if (end > maxBytes) {
      const [expected, found] = [`at most ${maxBytes} bytes`, "more"];
      throw makeError("checkpoint", `${file.name}: expected ${expected}, found ${found}`, {
        file: file.name,
        expected,
        found,
      });
    }
    if (end > bytes.byteLength) {
      const larger = new Uint8Array(Math.max(end, 2 * nBytes)); // the server gave no size, or a wrong one
      larger.set(bytes.subarray(0, nBytes));
      bytes = larger;
    }
    bytes.set(chunk, nBytes);
    nBytes = end;
  }
  return nBytes === bytes.byteLength ? bytes : bytes.slice(0, nBytes);
}
