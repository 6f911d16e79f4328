// A file on a server that does to a download what real servers do: holds it back, cuts it, changes it, refuses it. It
// does nothing by the clock: a download that is held back goes on, or is cut, when the test says so.
import { createHash } from "node:crypto";

const WRITE_BYTES = 256 << 10;

/** A file as it is served. Its fields change what the server does. */
export class ServedFile {
  /** What was answered to GET: `{ from, sent }`, bytes, or `{ status }`. */
  answers = [];
  /** Answers that are being written, and the most that ever were. */
  nOpen = 0;
  mostOpen = 0;
  /** What goes on with each answer that is held back, by its response. */
  #held = new Map();

  /** `together` counts the open answers of several files. */
  constructor(bytes, together) {
    this.bytes = bytes;
    this.together = together ?? this;
    this.sha256 = createHash("sha256").update(bytes).digest("hex");
    this.reset();
  }

  /** As a server that serves it well. */
  reset() {
    this.answers = [];
    /** Whether a part can be asked for. */
    this.hasRanges = true;
    /** How many bytes of an answer are sent before it is held back. */
    this.holdAfter = Infinity;
    /** Whether a byte of what is sent is wrong. */
    this.flip = false;
    /** `[status, headers]` of the next answers. */
    this.statuses = [];
    this.tag = `"${this.sha256}"`;
  }

  /** Holds nothing back any more. */
  release() {
    this.holdAfter = Infinity;
    for (const goOn of this.#held.values()) goOn();
    this.#held.clear();
  }

  /** Cuts the connections of what is held back, and holds nothing back any more. */
  cut() {
    this.holdAfter = Infinity;
    for (const response of this.#held.keys()) response.destroy();
    this.#held.clear();
  }

  answer(request, response) {
    const { bytes, tag } = this;
    const headers = {
      ...(tag ? { ETag: tag, ...(tag.length === 66 ? { "X-Linked-ETag": tag } : {}) } : {}),
      "Content-Type": "application/octet-stream",
    };
    if (request.method === "HEAD") return response.writeHead(200, { ...headers, "Content-Length": bytes.length }).end();
    const status = this.statuses.shift();
    if (status) {
      this.answers.push({ status: status[0] });
      return response.writeHead(...status).end();
    }
    const range = this.hasRanges && /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const from = range ? Number(range[1]) : 0;
    const body = Buffer.from(bytes.subarray(from));
    if (this.flip) body[body.length - 10] ^= 1;
    response.writeHead(range ? 206 : 200, {
      ...headers,
      "Content-Length": body.length,
      ...(range ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    const answer = { from, sent: 0 };
    this.answers.push(answer);
    this.#send(answer, body, response);
  }

  #send(answer, body, response) {
    const { together } = this;
    together.nOpen += 1;
    together.mostOpen = Math.max(together.mostOpen, together.nOpen);
    response.on("close", () => {
      together.nOpen -= 1;
      this.#held.delete(response);
    });
    const write = () => {
      if (response.destroyed) return;
      if (answer.sent === body.length) return response.end();
      const end = Math.min(body.length, this.holdAfter, answer.sent + WRITE_BYTES);
      if (answer.sent >= end) return this.#held.set(response, write);
      const piece = body.subarray(answer.sent, end);
      answer.sent = end;
      response.write(piece, write);
    };
    write();
  }
}
