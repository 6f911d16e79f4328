// Draws the icons that a web app manifest needs as PNG, from the drawings: `await drawIcons()` writes them to icons/.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { initWasm, Resvg } from "@resvg/resvg-wasm";

/** Each file, the drawing that it is made from, and its width in pixels. */
const ICONS = [
  ["icons/180.png", "icon-maskable.svg", 180], // for the home screen of iOS, which rounds the corners itself
  ["icons/192.png", "icon.svg", 192],
  ["icons/512.png", "icon.svg", 512],
  ["icons/maskable-512.png", "icon-maskable.svg", 512],
];

/** Writes the icons; the same drawing gives the same bytes. → their paths */
export async function drawIcons() {
  const here = (name) => new URL(name, import.meta.url);
  await initWasm(readFileSync(createRequire(import.meta.url).resolve("@resvg/resvg-wasm/index_bg.wasm")));
  mkdirSync(here("icons"), { recursive: true });
  for (const [file, drawing, width] of ICONS) {
    const options = { fitTo: { mode: "width", value: width }, font: { loadSystemFonts: false } };
    writeFileSync(here(file), new Resvg(readFileSync(here(drawing), "utf8"), options).render().asPng());
  }
  return ICONS.map(([file]) => file);
}
