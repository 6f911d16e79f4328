/** Where a download that broke is joined to the one that continues it. */

/** Bytes that are fetched twice where the server does not surely tell that the file is still the same. */
const MAX_TAIL_BYTES = 64 << 10;

/** Notices where what continues a file is not what was there before. */
export class Joint {
  /** Bytes that have been passed on, from the file's first byte. */
  found: number;
  /** The last bytes before `found`. */
  #tail = new Uint8Array(0);
  /** Bytes of the answer that have been passed on already. */
  #nKnown = 0;

  constructor(found: number) {
    this.found = found;
  }

  /** The place from which on a file is asked for, so that enough of it comes twice. */
  get overlapStart(): number {
    return this.found - this.#tail.byteLength;
  }

  /** An answer begins that starts at this place. */
  begin(start: number): void {
    this.#nKnown = this.found - start;
  }

  /** What is new in the next bytes of an answer; `null` if they are not what was there before. */
  take(chunk: Uint8Array): Uint8Array | null {
    const nOld = Math.min(this.#nKnown, chunk.byteLength);
    // Where this chunk begins, counted from the tail's first byte.
    const at = this.#tail.byteLength - this.#nKnown;
    for (let i = Math.max(0, -at); i < nOld; i++) {
      if (chunk[i] !== this.#tail[at + i]) return null;
    }
    this.#nKnown -= nOld;
    const fresh = chunk.subarray(nOld);
    this.found += fresh.byteLength;
    if (fresh.byteLength > 0) this.#keep(fresh);
    return fresh;
  }

  #keep(fresh: Uint8Array): void {
    const nFresh = Math.min(fresh.byteLength, MAX_TAIL_BYTES);
    const nOld = Math.min(this.#tail.byteLength, MAX_TAIL_BYTES - nFresh);
    const tail = new Uint8Array(nOld + nFresh);
    tail.set(this.#tail.subarray(this.#tail.byteLength - nOld));
    tail.set(fresh.subarray(fresh.byteLength - nFresh), nOld);
    this.#tail = tail;
  }
}
