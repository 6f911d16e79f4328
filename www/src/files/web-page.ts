/** Web pages in the place of files: hosts of single-page apps answer every path with their page. */

/** Bytes that are looked at. */
const MAX_BYTES = 512;

/** The first bytes of a file, and all of its chunks. */
export interface Peeked {
  isPage: boolean;
  chunks: AsyncGenerator<Uint8Array>;
}

/** Reads as much of a file as it takes to tell whether it is a web page. What fails then fails in `chunks`. */
export async function peek(chunks: AsyncGenerator<Uint8Array>): Promise<Peeked> {
  const held: Uint8Array[] = [];
  let failure: { error: unknown } | undefined;
  let isPage: boolean | undefined;
  try {
    while (isPage === undefined) {
      const { done, value } = await chunks.next();
      if (done) break;
      held.push(value.slice()); // the chunk's own memory is used again for the next one
      isPage = isPageStart(held);
    }
  } catch (error) {
    failure = { error };
  }
  const all = async function* () {
    try {
      for (let chunk = held.shift(); chunk; chunk = held.shift()) yield chunk;
      if (failure) throw failure.error;
      yield* chunks;
    } finally {
      await chunks.return(undefined);
    }
  };
  return { isPage: isPage ?? false, chunks: all() };
}

/** Whether a file begins as a web page does; `undefined` where more of it is needed to tell. */
function isPageStart(chunks: Uint8Array[]): boolean | undefined {
  const bytes = chunks.flatMap((chunk) => [...chunk.subarray(0, MAX_BYTES)]).slice(0, MAX_BYTES);
  const text = new TextDecoder().decode(new Uint8Array(bytes));
  const start = text.replace(/^(\s|<!--[\s\S]*?-->)+/, "").toLowerCase();
  if (/^(<!doctype html|<html|<head|<body)/.test(start)) return true;
  const isOpen = start === "" || start.startsWith("<!--") || "<!doctype html".startsWith(start) || start.length < 6;
  return isOpen && (start === "" || start.startsWith("<")) && bytes.length < MAX_BYTES ? undefined : false;
}
