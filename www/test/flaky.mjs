// A server for one file that does to a download what real ones do: cuts it, slows it, changes it, refuses it.
import { createHash } from "node:crypto";

const DEFAULTS = { ranges: true, cut_after: Infinity, linger: 0, slow: 0, flip: false, status: [] };

/** A file as served. Its fields change what the server does. */
export class Flaky {
  /** What was answered: `{ from, sent }`, or `{ status }`. */
  answers = [];
  /** Answers that are being written, and the most that ever were. */
  n_open = 0;
  most_open = 0;

  /** `shared` counts the open answers of several files together. */
  constructor(bytes, shared) {
    this.bytes = bytes;
    this.shared = shared ?? this;
    this.sha256 = createHash("sha256").update(bytes).digest("hex");
    this.reset();
  }

  reset() {
    Object.assign(this, DEFAULTS, { answers: [], status: [], tag: `"${this.sha256}"` });
  }

  answer(request, response) {
    const { bytes, shared } = this;
    const headers = {
      ...(this.tag ? { ETag: this.tag, ...(this.tag.length === 66 ? { "X-Linked-ETag": this.tag } : {}) } : {}),
      "Content-Type": "application/octet-stream",
    };
    if (request.method === "HEAD") return response.writeHead(200, { ...headers, "Content-Length": bytes.length }).end();
    const status = this.status.shift();
    if (status) {
      this.answers.push({ status: status[0] });
      return response.writeHead(...status).end();
    }
    const range = this.ranges && /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const from = range ? Number(range[1]) : 0;
    const answer = { from, sent: 0 };
    this.answers.push(answer);
    const body = Buffer.from(bytes.subarray(from));
    if (this.flip) body[body.length - 10] ^= 1;
    response.writeHead(range ? 206 : 200, {
      ...headers,
      "Content-Length": body.length,
      ...(range ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    shared.n_open += 1;
    shared.most_open = Math.max(shared.most_open, shared.n_open);
    response.on("close", () => (shared.n_open -= 1));
    const end = Math.min(body.length, this.cut_after);
    this.cut_after = Infinity; // once
    const write = () => {
      if (response.destroyed) return;
      // a reset throws away what is still in the pipe: `linger` lets it drain
      if (answer.sent >= end) return end < body.length ? setTimeout(() => response.destroy(), this.linger) : response.end();
      const piece = body.subarray(answer.sent, Math.min(end, answer.sent + (256 << 10)));
      answer.sent += piece.length;
      response.write(piece, () => setTimeout(write, this.slow));
    };
    write();
  }
}

/** The files of a safetensors checkpoint: tensors by name as `{ dtype, shape, data }`, in order. */
export function safetensors(tensors) {
  let n = 0;
  const header = {};
  for (const [name, { dtype, shape, data }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [n, n + data.length] };
    n += data.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, ...tensors.map(([, { data }]) => data)]);
}

/** The tensors of a file, in the order of their bytes. */
export function tensorsOf(file) {
  const n_json = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + n_json));
  const data = file.subarray(8 + n_json);
  return Object.entries(header)
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
    .map(([name, { dtype, shape, data_offsets }]) => [name, { dtype, shape, data: data.subarray(...data_offsets) }]);
}
