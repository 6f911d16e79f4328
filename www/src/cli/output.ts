/** The folder that a conversion writes: what was begun there, and what is whole. */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { invalidOption } from "../api/errors.js";
import { MANIFEST, type ManifestJson } from "../files/manifest.js";

/** The folder in it that holds what has arrived, until the conversion is whole. */
const PARTIAL = "gpt2-web.partial";
const JOB = "job.json";

/** What is converted: a conversion goes on only as the very same one. */
export type Job = Readonly<Record<"model" | "dtype" | "revision" | "base" | "layout", string>>;

export class Output {
  readonly folder: string;
  /** Where what arrives is kept. */
  readonly partial: string;

  /** Makes the folder, or goes on in it. @throws InvalidOptionError if there is anything else in it. */
  constructor(folder: string, job: Job) {
    this.folder = path.resolve(folder);
    this.partial = path.join(this.folder, PARTIAL);
    const there = existsSync(this.folder) ? readdirSync(this.folder) : [];
    if (there.length > 0) this.#goOn(there, job);
    mkdirSync(this.partial, { recursive: true });
    writeWhole(path.join(this.partial, JOB), JSON.stringify(job, null, 2));
  }

  #goOn(there: string[], job: Job): void {
    const expected = "a new or empty folder, or one in which this conversion was begun";
    const told = path.join(this.partial, JOB);
    if (!existsSync(told)) {
      const few = there.slice(0, 3).join(", ");
      const found = there.includes(MANIFEST) ? "a converted model" : few;
      throw invalidOption("--out", expected, `${this.folder} with ${found}`);
    }
    const begun = JSON.parse(readFileSync(told, "utf8")) as Job;
    const other = (Object.keys(job) as (keyof Job)[]).filter((key) => begun[key] !== job[key]);
    if (other.length === 0) return;
    const differences = other.map((key) => `${key} ${begun[key]} instead of ${job[key]}`).join(", ");
    throw invalidOption("--out", expected, `${this.folder} with another one: ${differences}`);
  }

  /** Puts everything in place, last of all what makes the folder a model, and forgets what had arrived. */
  finish(packed: string, small: ReadonlyMap<string, Uint8Array>, manifest: ManifestJson): void {
    for (const [name, bytes] of small) writeWhole(path.join(this.folder, name), bytes);
    renameSync(packed, path.join(this.folder, manifest.file));
    writeWhole(path.join(this.folder, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    rmSync(this.partial, { recursive: true });
  }
}

/** Writes a file so that there is either all of it or none. */
export function writeWhole(file: string, content: string | Uint8Array): void {
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}
