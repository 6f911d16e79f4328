/** What a response tells of its file. */

/** What identifies a version of a file on its server. */
export interface Version {
  /** Size in bytes, where it is surely known. */
  bytes: number | null;
  /** The server's `ETag`, or when it says that the file last changed. */
  tag: string | null;
}

/** What a response says. */
export interface Described {
  version: Version;
  /** Place in the file of the response's first byte; `NaN` where that cannot be known. */
  start: number;
  /** What the server says the whole file's SHA-256 is, in hex. */
  digest: string | null;
  /** Size in bytes, where it is known at least roughly. */
  about: number | null;
  /** Whether the body is surely compressed: then places in the file are not places in what is sent. */
  isCompressed: boolean;
}

/**
 * @param from the place from which on the file was asked for.
 * @param total the size that an earlier answer told: it tells where a part begins whose range another origin hides.
 */
export function describe(response: Response, from = 0, total: number | null = null): Described {
  const { headers } = response;
  const encoding = headers.get("content-encoding");
  const isCompressed = encoding !== null && encoding !== "identity";
  // What another origin does not expose is not seen, such as that a body is compressed.
  const isHidden = response.type === "cors" && encoding === null;
  const length = numberOf(headers.get("content-length"));
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
  const linkedBytes = numberOf(headers.get("x-linked-size"));
  const linked = headers.get("x-linked-etag");
  let start = 0;
  let bytes = isCompressed || isHidden ? null : length;
  let about = isCompressed ? null : length;
  if (response.status === 206) {
    const isTail = length !== null && total !== null && from + length === total;
    if (range) start = Number(range[1]);
    else if (from > 0) start = isTail ? from : Number.NaN;
    bytes = isCompressed ? null : numberOf(range?.[2] ?? null);
    // The only answer to a question for one byte that hides its range tells nothing of the size.
    about = bytes ?? (isTail ? total : null);
  }
  const version = {
    bytes: bytes ?? linkedBytes,
    tag: linked ?? headers.get("etag") ?? headers.get("last-modified"),
  };
  // The hub's tag of a large file is its SHA-256; other servers' tags may be anything.
  const digest = /^(?:W\/)?"?([0-9a-f]{64})"?$/.exec(linked ?? "")?.[1] ?? null;
  return { version, start, digest, about: version.bytes ?? about, isCompressed };
}

function numberOf(text: string | null): number | null {
  return text !== null && /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

const weak = (tag: string) => tag.replace(/^W\//, "");

/** Whether two versions are the same as far as tags tell; without a tag that cannot be known. */
export function isSame(a: Version, b: Version): boolean {
  return a.tag !== null && b.tag !== null && weak(a.tag) === weak(b.tag) && !differInSize(a, b);
}

/** Whether two versions are surely the same to the byte, so that a part of one continues the other. */
export function isSameToTheByte(a: Version, b: Version): boolean {
  return isSame(a, b) && a.tag === b.tag && !a.tag?.startsWith("W/");
}

/** Whether two versions are surely not the same. */
export function isOther(a: Version, b: Version): boolean {
  return differInSize(a, b) || (a.tag !== null && b.tag !== null && weak(a.tag) !== weak(b.tag));
}

function differInSize(a: Version, b: Version): boolean {
  return a.bytes !== null && b.bytes !== null && a.bytes !== b.bytes;
}
