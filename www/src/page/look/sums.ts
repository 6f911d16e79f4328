/** What a text and a stretch of it come to, in figures. */

import { figureText, shareText } from "../../elements/figures.js";
import type { Sum } from "../../elements/pieces.js";
import { byId } from "../dom.js";

const head = byId("sums-head", HTMLTableRowElement);
const body = byId("sums", HTMLTableSectionElement);
const bar = byId("bands", HTMLDivElement);

const ROWS: [string, (sum: Sum) => string][] = [
  ["Tokens", ({ nTokens }) => nTokens.toLocaleString("en")],
  ["Perplexity", ({ perplexity }) => figureText(perplexity)],
  ["Bits per token", ({ bits, nTokens }) => figureText(bits / nTokens)],
  ["Bits per byte", ({ bitsPerByte }) => bitsPerByte.toFixed(3)],
  ["Entropy, bits", ({ entropy }) => figureText(entropy)],
  ["Among the 10 likeliest", (sum) => shareText(shareOf(sum, 0))],
  ["Beyond the 1,000", (sum) => shareText(shareOf(sum, 3))],
];

const shareOf = ({ bands }: Sum, band: 0 | 1 | 2 | 3) => bands[band] / bands.reduce((a, b) => a + b, 0);

function cell(kind: "th" | "td", text: string, scope?: "col" | "row"): HTMLTableCellElement {
  const made = document.createElement(kind);
  made.textContent = text;
  if (scope) made.scope = scope;
  return made;
}

/** Shows the sums: of the whole text, of what is chosen, and of another model. */
export function showSums({ whole, chosen, other }: Record<"whole" | "chosen" | "other", Sum | null>): void {
  const columns: [string, Sum][] = [];
  if (whole) columns.push(["All", whole]);
  if (chosen) columns.push(["Chosen", chosen]);
  if (other) columns.push(["Other model", other]);
  head.replaceChildren(cell("td", ""), ...columns.map(([name]) => cell("th", name, "col")));
  body.replaceChildren(
    ...ROWS.map(([name, text]) => {
      const row = document.createElement("tr");
      const cells = columns.length > 0 ? columns.map(([, sum]) => cell("td", text(sum))) : [cell("td", "–")];
      row.append(cell("th", name, "row"), ...cells);
      return row;
    }),
  );
  const shown = chosen ?? whole;
  bar.replaceChildren(
    ...([0, 1, 2, 3] as const).map((band) => {
      const part = document.createElement("span");
      part.dataset.band = String(band);
      part.style.flexGrow = String(shown ? shareOf(shown, band) : band === 0 ? 1 : 0);
      return part;
    }),
  );
}
