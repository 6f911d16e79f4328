// Writes src/page/look/example.ts anew: how surprised the demo model is by the text that Look opens with. Needs a build.
import { writeFileSync } from "node:fs";
import { serve } from "./serve.mjs";
import { launch } from "./test/browser.mjs";

const served = await serve(import.meta.dirname);
const browser = await launch();
const page = await browser.newPage();
await page.goto(`${served.url}?view=look&dtype=fp32&device=wasm`);
await page.waitForFunction(() => {
  const surprise = document.querySelector("#surprise");
  return surprise.state === "ready" && surprise.pieces.length > 0;
});
const pieces = await page.evaluate(() => [...document.querySelector("#surprise").pieces]);
await browser.close();
served.server.close();
served.server.closeAllConnections();

const rounded = (value) => (value === null ? null : Number(value.toFixed(3)));
const rows = pieces.map(({ text, nTokens, bits, rank, entropy }) => {
  const values = [text, nTokens, rounded(bits), rank, rounded(entropy)];
  return `[${values.map((value) => JSON.stringify(value)).join(", ")}]`;
});
writeFileSync(
  "src/page/look/example.ts",
  `/** How surprised the demo model is by the text that Look opens with, to be shown at once. By look-example.mjs. */

import type { Piece } from "../../elements/pieces.js";

/** [text, tokens, bits, rank, entropy] */
type Row = [string, number, number | null, number | null, number | null];

const ROWS: Row[] = [
${rows.map((row) => `  ${row},`).join("\n")}
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
`,
);
