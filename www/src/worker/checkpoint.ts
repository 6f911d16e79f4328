/** The files of a checkpoint, read so that each counts as progress. */

import { makeError } from "../api/errors.js";
import { type Hub, type OpenFile, readBytes, readText } from "../files/hub.js";
import type { Progress } from "./progress.js";

/** The bytes of `tokenizer.json`, or the texts of `vocab.json` and `merges.txt`. */
export type TokenizerFiles = Uint8Array | [string, string];

export class Checkpoint {
  readonly hub: Hub;
  readonly #progress: Progress;

  constructor(hub: Hub, progress: Progress) {
    this.hub = hub;
    this.#progress = progress;
  }

  /** Opens a file, if there is one of that name. */
  async open(name: string): Promise<OpenFile | null> {
    this.#progress.initiate(name);
    const file = await this.hub.open(name);
    if (!file) return null;
    this.#progress.open(name, file.bytes ?? 0);
    return { ...file, chunks: this.#counted(file) };
  }

  /** The texts of `config.json` and, if there is one, of `generation_config.json`. */
  async readConfigs(): Promise<[string, string | undefined]> {
    const config = await this.open("config.json");
    if (!config) throw missing("config.json", "the model's configuration");
    const text = await readText(config);
    const generation = await this.open("generation_config.json");
    return [text, generation ? await readText(generation) : undefined];
  }

  async readTokenizer(): Promise<TokenizerFiles> {
    const tokenizer = await this.open("tokenizer.json");
    if (tokenizer) return readBytes(tokenizer);
    const [vocab, merges] = [await this.open("vocab.json"), await this.open("merges.txt")];
    if (!vocab) throw missing("tokenizer.json", "this file, or vocab.json and merges.txt");
    if (!merges) throw missing("merges.txt", "this file beside vocab.json, or tokenizer.json");
    return [await readText(vocab), await readText(merges)];
  }

  async *#counted({ name, chunks }: OpenFile): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      const nBytes = chunk.byteLength;
      yield chunk;
      this.#progress.advance(name, nBytes);
    }
    this.#progress.close(name);
  }
}

/** A file that a checkpoint must have. */
export function missing(file: string, expected: string): Error {
  const found = "no such file";
  return makeError("checkpoint", `${file}: expected ${expected}, found ${found}`, { file, expected, found });
}
