/** The files of a checkpoint, read so that each counts as progress. */

import { type Hub, type OpenFile, readBytes, readText } from "../files/hub.js";
import { tokenizerNames } from "./inventory.js";
import type { Progress } from "./progress.js";
import { missing, noTokenizer } from "./unusable.js";

/** The bytes of each file of a tokenizer that is there, by its name. */
export type TokenizerParts = [name: string, bytes: Uint8Array][];

/** The texts of `config.json` and, if there is one, of `generation_config.json`. */
export type Configs = [config: string, generation: string | undefined];

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
    if (!file) {
      this.#progress.forget(name);
      return null;
    }
    this.#progress.open(name, file.bytes);
    return { ...file, chunks: this.#counted(file) };
  }

  /** Reads the model's configurations. */
  async readConfigs(): Promise<Configs> {
    const config = await this.open("config.json");
    if (!config) throw missing(this.hub, "config.json", "the model's configuration");
    const text = await readText(config);
    const generation = await this.open("generation_config.json");
    return [text, generation ? await readText(generation) : undefined];
  }

  /** The tokenizer's files; what is missing among several is told by whoever builds it. */
  async readTokenizer(): Promise<TokenizerParts> {
    const found: TokenizerParts = [];
    const read = async (name: string) => {
      const file = await this.open(name);
      if (file) found.push([name, await readBytes(file)]);
    };
    await read("tokenizer.json");
    const names = tokenizerNames(found.length > 0).filter((name) => name !== "tokenizer.json");
    await Promise.all(names.map(read));
    const hasVocabulary = found.some(([name]) => /^(tokenizer\.json|vocab\..*)$/.test(name));
    if (!hasVocabulary) throw await noTokenizer(this.hub);
    return found;
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
