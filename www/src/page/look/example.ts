/** How surprised the demo model is by the text that Look opens with, to be shown at once. By look-example.mjs. */

import type { Piece } from "../../elements/pieces.js";

/** [text, tokens, bits, rank, entropy] */
type Row = [string, number, number | null, number | null, number | null];

const ROWS: Row[] = [
  ["Once", 1, null, null, null],
  [" upon", 1, 5.262, 9, 5.27],
  [" a", 1, 0.233, 0, 1.304],
  [" time", 1, 0.454, 0, 2.909],
  [" there", 1, 3.627, 1, 4.648],
  [" was", 1, 0.59, 0, 2.379],
  [" a", 1, 0.789, 0, 3.116],
  [" king", 1, 6.373, 7, 8.545],
  [" who", 1, 1.938, 0, 4.323],
  [" had", 1, 1.659, 0, 4.427],
  [" three", 1, 4.077, 2, 6.353],
  [" daughters", 1, 2.117, 1, 3.713],
  [".", 1, 1.738, 1, 3.084],
  [" The", 1, 3.597, 1, 4.388],
  [" eldest", 1, 5.456, 7, 7.18],
  [" was", 1, 2.123, 0, 5.219],
  [" proud", 1, 9.083, 66, 6.426],
  [",", 1, 4.663, 2, 1.162],
  [" the", 1, 6.725, 6, 2.725],
  [" second", 1, 3.111, 1, 5.018],
  [" was", 1, 3.243, 2, 5.407],
  [" a", 1, 2.705, 0, 6.549],
  [" v", 1, 8.986, 92, 8.069],
  ["ol", 1, 5.853, 11, 5.279],
  ["c", 1, 3.327, 1, 4.118],
  ["an", 1, 0.289, 0, 1.952],
  ["o", 1, 3.354, 1, 6.612],
  [",", 1, 1.106, 0, 4.738],
  [" and", 1, 1.047, 0, 3.961],
  [" the", 1, 2.217, 0, 5.943],
  [" youngest", 1, 2.452, 0, 4.781],
  [" was", 1, 1.713, 0, 4.719],
  [" so", 1, 2.698, 0, 6.667],
  [" beautiful", 1, 4.515, 0, 7.85],
  [" that", 1, 0.411, 0, 1.607],
  [" the", 1, 2.557, 1, 3.987],
  [" sun", 1, 7.866, 29, 6.414],
  [" himself", 1, 12.932, 312, 5.264],
  [" wondered", 1, 13.897, 486, 6.01],
  [" whenever", 1, 13.539, 137, 3.512],
  [" he", 1, 1.561, 0, 3.03],
  [" shone", 1, 11.04, 120, 5.517],
  [" on", 1, 4.176, 5, 5.396],
  [" her", 1, 3.547, 2, 3.042],
  [" face", 1, 3.705, 2, 5.481],
  [".", 1, 0.653, 0, 2.091],
];

/** The pieces of the text, without rivals. */
export function examplePieces(): Piece[] {
  let [start, firstToken] = [0, 0];
  return ROWS.map(([text, nTokens, bits, rank, entropy]) => {
    const piece = { text, start, end: start + text.length, firstToken, nTokens, bits, rank, entropy, rivals: [] };
    [start, firstToken] = [piece.end, firstToken + nTokens];
    return piece;
  });
}
