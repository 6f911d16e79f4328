// Safetensors files, written and taken apart; and the demo model made so large that a download of it can be broken off.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { WWW } from "./site.mjs";

/** A file of tensors: by name as `{ dtype, shape, data }`, in the order of their bytes. */
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
  const jsonBytes = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + jsonBytes));
  const data = file.subarray(8 + jsonBytes);
  return Object.entries(header)
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
    .map(([name, { dtype, shape, data_offsets }]) => [name, { dtype, shape, data: data.subarray(...data_offsets) }]);
}

/**
 * The demo model's weights dealt out to so many files, each with a mask buffer of `padBytes` before its tensors, which
 * a loader leaves out: so there are chunks of a download to go on from. → for each file its tensors
 */
export function paddedDemo(nFiles, padBytes) {
  const tensors = tensorsOf(readFileSync(path.join(WWW, "demo/model.safetensors")));
  const nLayer = 4;
  return Array.from({ length: nFiles }, (_, i) => {
    const mask = `transformer.h.${i % nLayer}.attn.${i < nLayer ? "bias" : "masked_bias"}`;
    const pad = { dtype: "U8", shape: [padBytes], data: randomBytes(padBytes) };
    return [[mask, pad], ...tensors.filter((_, n) => n % nFiles === i)];
  });
}
