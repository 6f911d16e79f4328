/** SHA-256 of bytes as they come: in this thread, or in one of its own so that it does not slow this one down. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { trustedScript } from "../api/trusted.js";
import type { FromHashThread, ToHashThread } from "./hash-thread.js";

/** Bytes that may wait for the thread: enough that it never runs dry, and little beside a model. */
const MAX_WAITING_BYTES = 8 << 20;

/** How long a thread may take to start before this one does its work. */
const START_MS = 5_000;

/** A SHA-256 that is being computed. */
export interface Hash {
  /** Takes the next bytes. When it returns, their memory may be overwritten. */
  update(bytes: Uint8Array): Promise<void>;
  /** The digest of all bytes, in hex. Nothing can be added afterwards. */
  digest(): Promise<string>;
  /** Gives back what it holds. To be called in the end, also where there was no digest. */
  close(): void;
}

/** Begins a hash. */
export type StartHash = () => Hash;

/** A hash that this thread computes. */
export const hashHere: StartHash = () => {
  const hash = sha256.create();
  return {
    update: async (bytes) => void hash.update(bytes),
    digest: async () => bytesToHex(hash.digest()),
    close: () => hash.destroy(),
  };
};

/** Hashes in a thread with this script (hash-thread.ts), or here where the browser starts none. */
export const hashIn =
  (script: string): StartHash =>
  () => {
    let own: HashThread | undefined;
    const started = HashThread.start(script).then(
      (thread) => {
        own = thread;
        return thread;
      },
      () => hashHere(), // the digest is the same, only slower
    );
    let isClosed = false;
    return {
      update: async (bytes) => (await started).update(bytes),
      digest: async () => (await started).digest(),
      close: () => {
        if (isClosed) return;
        isClosed = true;
        if (own) own.close();
        else void started.then((hash) => hash.close());
      },
    };
  };

/** A thread that computes one digest. */
class HashThread implements Hash {
  #worker: Worker;
  #nWaiting = 0;
  #digest: string | undefined;
  #failure: Error | undefined;
  /** Wakes whoever waits for the thread's next message. */
  #wake = () => {};

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<FromHashThread>) => {
      if (data.kind === "hashed") this.#nWaiting -= data.bytes;
      else if (data.kind === "digest") this.#digest = data.hex;
      this.#wake();
    };
    worker.onerror = (event) => {
      this.#failure = new Error(`the thread that computes the SHA-256 failed: ${event.message}`);
      this.#wake();
    };
  }

  /** Resolves when the thread runs; rejects where it does not start. */
  static async start(script: string): Promise<HashThread> {
    const worker = new Worker(trustedScript(script), { type: "module", name: "gpt2-web SHA-256" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        worker.onmessage = () => resolve(); // its first message says that it runs
        worker.onerror = (event) => reject(new Error(event.message));
        timer = setTimeout(() => reject(new Error("no answer")), START_MS);
      });
      return new HashThread(worker);
    } catch (error) {
      worker.terminate();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async update(bytes: Uint8Array): Promise<void> {
    const copy = bytes.slice();
    this.#nWaiting += copy.byteLength;
    this.#send({ kind: "update", bytes: copy }, [copy.buffer]);
    await this.#until(() => this.#nWaiting <= MAX_WAITING_BYTES);
  }

  async digest(): Promise<string> {
    this.#send({ kind: "digest" }, []);
    await this.#until(() => this.#digest !== undefined);
    return this.#digest as string;
  }

  close(): void {
    this.#worker.terminate();
  }

  #send(message: ToHashThread, transfer: Transferable[]): void {
    this.#worker.postMessage(message, transfer);
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!this.#failure && !isSo()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure) throw this.#failure;
  }
}
