/** The thread that computes a SHA-256 beside the load. Started by hash.ts, for one digest, and ended with it. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

/** What it is told. */
export type ToHashThread = { kind: "update"; bytes: Uint8Array<ArrayBuffer> } | { kind: "digest" };

/** What it says: that it runs, how many bytes it has taken, and the digest in hex. */
export type FromHashThread = { kind: "ready" } | { kind: "hashed"; bytes: number } | { kind: "digest"; hex: string };

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToHashThread>) => void;
  postMessage(message: FromHashThread): void;
};

const hash = sha256.create();

scope.onmessage = ({ data }) => {
  if (data.kind === "update") {
    hash.update(data.bytes);
    scope.postMessage({ kind: "hashed", bytes: data.bytes.byteLength });
  } else {
    scope.postMessage({ kind: "digest", hex: bytesToHex(hash.digest()) });
  }
};
scope.postMessage({ kind: "ready" });
