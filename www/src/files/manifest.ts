/** The file that makes a folder a converted model: it says which packed weights lie beside it. */

import { makeError } from "../api/errors.js";
import { packedParts } from "./weight-files.js";

/** Its name. */
export const MANIFEST = "gpt2-web.json";

/** The first of its fields, by which it is told from any other JSON. */
export const MANIFEST_FORMAT = "gpt2-web packed weights";

/** Packed weights as a folder has them. */
export interface PublishedWeights {
  /** The file's name, such as `model.q8.v1.packed`. */
  name: string;
  bytes: number;
  /** The file's SHA-256, in hex. */
  sha256: string;
  /** The SHA-256 of each `pieceBytes` of it, and of the rest: bytes are checked long before the last is there. */
  pieceBytes: number;
  pieces: string[];
  /** What was left out or replaced when they were made. */
  warnings: string[];
}

/** The model that a folder was converted from. */
export interface Original {
  /** A Hugging Face id, or the URL of a folder. */
  model: string;
  revision: string | undefined;
}

/** What the file says. */
export interface Manifest {
  /** The version of the packed weights' layout. */
  layoutVersion: number;
  dtype: string;
  original: Original | null;
  /** `null` where the layout is another one than is read here: then nothing else of the file is trusted to be known. */
  weights: PublishedWeights | null;
}

/** The same as JSON. */
export interface ManifestJson {
  format: typeof MANIFEST_FORMAT;
  layout_version: number;
  dtype: string;
  file: string;
  bytes: number;
  sha256: string;
  piece_bytes: number;
  piece_sha256: string[];
  warnings: string[];
  original?: { model: string; revision?: string };
}

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isDigest = (value: unknown) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
const isText = (value: unknown) => typeof value === "string" && value !== "";
const isTexts = (value: unknown) => Array.isArray(value) && value.every((one) => typeof one === "string");
const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0;

/** Reads the file. `layoutVersion` is that of this build. @throws CheckpointError that names the field. */
export function readManifest(json: string, layoutVersion: number): Manifest {
  const fields = parse(json);
  const take = <T>(name: string, is: (value: unknown) => boolean, expected: string): T => {
    const value = fields[name];
    if (!is(value)) throw wrong(`\`${name}\`: ${expected}`, shown(value));
    return value as T;
  };
  take("format", (value) => value === MANIFEST_FORMAT, JSON.stringify(MANIFEST_FORMAT));
  const found = {
    layoutVersion: take<number>("layout_version", isCount, "a whole number from 1 on"),
    dtype: take<string>("dtype", isText, "the name of a number format"),
    original: originalOf(fields.original),
  };
  if (found.layoutVersion !== layoutVersion) return { ...found, weights: null };
  const isOwnName = (value: unknown) => {
    const parts = typeof value === "string" ? packedParts(value) : null;
    return parts?.dtype === found.dtype && parts.version === layoutVersion;
  };
  const bytes = take<number>("bytes", isCount, "the file's size");
  const pieceBytes = take<number>("piece_bytes", isCount, "the size of a piece");
  const nPieces = Math.ceil(bytes / pieceBytes);
  const isPieces = (value: unknown) => Array.isArray(value) && value.length === nPieces && value.every(isDigest);
  const weights = {
    name: take<string>("file", isOwnName, `the name of a file such as model.${found.dtype}.v${layoutVersion}.packed`),
    bytes,
    sha256: take<string>("sha256", isDigest, "64 hexadecimal digits"),
    pieceBytes,
    pieces: take<string[]>("piece_sha256", isPieces, `${nPieces} times 64 hexadecimal digits`),
    warnings: take<string[]>("warnings", isTexts, "a list of sentences"),
  };
  return { ...found, weights };
}

function parse(json: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw wrong("JSON", `something else (${(error as Error).message})`);
  }
  if (!isObject(value)) throw wrong("a JSON object", shown(value));
  return value;
}

function originalOf(value: unknown): Original | null {
  if (value === undefined || value === null) return null;
  const { model, revision } = isObject(value) ? value : {};
  if (!isText(model) || !(revision === undefined || isText(revision))) {
    throw wrong("`original`: the name of a model, and perhaps its revision", shown(value));
  }
  return { model: model as string, revision: revision as string | undefined };
}

const MAX_SHOWN_CHARS = 100;

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
}

function wrong(expected: string, found: string): Error {
  return makeError("checkpoint", `${MANIFEST}: expected ${expected}, found ${found}`, {
    file: MANIFEST,
    expected,
    found,
  });
}
