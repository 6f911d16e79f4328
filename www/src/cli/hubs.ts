/** Where a checkpoint's files come from in Node: a folder on disk, or a server, from which they are kept on disk. */

import {
  closeSync,
  createReadStream,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import path from "node:path";
import { abortError, makeError } from "../api/errors.js";
import { fileUrl } from "../files/address.js";
import { checked } from "../files/digest.js";
import { hashHere } from "../files/hash.js";
import { openRemote, type Remote, versionOf } from "../files/http.js";
import type { FileSize, Hub, OpenFile } from "../files/hub.js";
import type { HttpOptions, Refusal } from "../files/request.js";
import type { Version } from "../files/response.js";
import { writeWhole } from "./output.js";
import { writeAll } from "./packed-file.js";

const READ_BYTES = 1 << 20;

/** A hub that has no packed weights, and keeps none. */
abstract class NodeHub implements Hub {
  abstract open(file: string): Promise<OpenFile | null>;
  abstract size(file: string, maxAttempts?: number): Promise<FileSize | null>;

  refusal(_file: string): Refusal | undefined {
    return undefined;
  }

  names(): string[] | null {
    return null;
  }

  async packedSizes(): Promise<[]> {
    return [];
  }

  prefetch(): void {}

  async openPacked(): Promise<null> {
    return null;
  }

  async openPublished(): Promise<null> {
    return null;
  }

  async confirm(): Promise<void> {}
  async keepPacked(): Promise<void> {}
  async complete(): Promise<void> {}
  async drop(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Files in a folder on disk. */
export class FolderHub extends NodeHub {
  readonly #folder: string;
  readonly #signal: AbortSignal;

  constructor(folder: string, signal: AbortSignal) {
    super();
    [this.#folder, this.#signal] = [folder, signal];
  }

  async open(file: string): Promise<OpenFile | null> {
    const at = path.join(this.#folder, file);
    const bytes = sizeOf(at);
    return bytes === null ? null : { name: file, bytes, chunks: readFrom(at, this.#signal) };
  }

  async size(file: string): Promise<FileSize | null> {
    const bytes = sizeOf(path.join(this.#folder, file));
    return bytes === null ? null : { bytes, cached: bytes };
  }

  override names(): string[] {
    return readdirSync(this.#folder);
  }
}

/** What is noted beside a part of a file: of which version it is. */
type Part = Version & { sha256: string | null };

/** Files of a server. Each is kept in a folder as it arrives; a part of one is gone on from. */
export class DownloadHub extends NodeHub {
  readonly #base: string;
  readonly #folder: string;
  readonly #options: HttpOptions;
  readonly #refusals = new Map<string, Refusal>();

  constructor(base: string, folder: string, options: HttpOptions) {
    super();
    [this.#base, this.#folder, this.#options] = [base, folder, options];
  }

  async open(file: string): Promise<OpenFile | null> {
    const at = this.#at(file);
    const bytes = sizeOf(at);
    if (bytes !== null) return { name: file, bytes, chunks: readFrom(at, this.#options.signal) };
    const kept = this.#part(at);
    const remote = await openRemote(fileUrl(file, this.#base), kept, this.#options);
    if (!remote) return null;
    if ("refusal" in remote) {
      this.#refusals.set(file, remote.refusal);
      return null;
    }
    if (remote.unread !== null) {
      const found = `none: ${remote.unread}`;
      const details = { file, expected: "its SHA-256", found };
      throw makeError("integrity", `${file}: expected its SHA-256 from the server, found ${found}`, details);
    }
    const chunks = checked(this.#keep(at, remote), remote.sha256, file, { startHash: hashHere, tell: () => undefined });
    return { name: file, bytes: remote.bytes, chunks: this.#whole(at, chunks) };
  }

  async size(file: string, maxAttempts?: number): Promise<FileSize | null> {
    const bytes = sizeOf(this.#at(file));
    if (bytes !== null) return { bytes, cached: bytes };
    const found = await versionOf(fileUrl(file, this.#base), this.#options, maxAttempts);
    if (found && !("refusal" in found)) return { bytes: found.about, cached: 0 };
    if (found) this.#refusals.set(file, found.refusal);
    return null;
  }

  override refusal(file: string): Refusal | undefined {
    return this.#refusals.get(file);
  }

  #at(file: string): string {
    const at = path.join(this.#folder, "files", file);
    mkdirSync(path.dirname(at), { recursive: true });
    return at;
  }

  #part(at: string): (Part & { n: number }) | null {
    const n = sizeOf(`${at}.part`) ?? 0;
    if (n === 0 || !existsSync(`${at}.version`)) return null;
    return { ...(JSON.parse(readFileSync(`${at}.version`, "utf8")) as Part), n };
  }

  /** All of the file: what is there of it, then what the server sends, which is kept. */
  async *#keep(at: string, { bytes, tag, sha256, from, chunks }: Remote): AsyncGenerator<Uint8Array> {
    if (from > 0) yield* readFrom(`${at}.part`, this.#options.signal);
    else rmSync(`${at}.part`, { force: true });
    writeWhole(`${at}.version`, JSON.stringify({ bytes, tag, sha256 } satisfies Part));
    const fd = openSync(`${at}.part`, from > 0 ? "r+" : "w");
    try {
      let offset = from;
      for await (const chunk of chunks) {
        writeAll(fd, chunk, offset);
        offset += chunk.byteLength;
        yield chunk;
      }
    } finally {
      closeSync(fd);
    }
  }

  /** Marks the file as whole when all of it has passed its check; a wrong one is forgotten. */
  async *#whole(at: string, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* chunks;
    } catch (error) {
      if ((error as { code?: string }).code === "integrity") rmSync(`${at}.part`, { force: true });
      throw error;
    }
    renameSync(`${at}.part`, at);
    rmSync(`${at}.version`);
  }
}

/** A file's size; `null` if there is none of that name. */
function sizeOf(at: string): number | null {
  const stat = statSync(at, { throwIfNoEntry: false });
  return stat?.isFile() ? stat.size : null;
}

async function* readFrom(at: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const chunk of createReadStream(at, { highWaterMark: READ_BYTES }) as AsyncIterable<Uint8Array>) {
    if (signal.aborted) throw abortError();
    yield chunk;
  }
}
