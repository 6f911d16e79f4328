/** Losses by step, drawn while they come. What it shows stands beside it in figures. */

import { byId } from "../dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [240, 40, 26, 10, 10];
/** Where the page has no room for it yet, or none is known. */
const USUAL_WIDTH = 640;

/** [step, nats per token] */
export type Point = readonly [step: number, loss: number];

function element(name: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

/** Round numbers from the least to the most, about five. */
function ticks(least: number, most: number): number[] {
  const raw = Math.max(most - least, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
  const first = Math.ceil(least / step);
  return Array.from({ length: Math.floor(most / step) - first + 1 }, (_, i) => (first + i) * step);
}

export class LossPlot {
  readonly #svg = byId("learn-plot", HTMLElement).querySelector("svg") as SVGSVGElement;
  /** Draws it again, where the window has another width. */
  #again: () => void = () => {};

  constructor() {
    new ResizeObserver(() => this.#again()).observe(this.#svg);
  }

  /** Draws the losses of the text and of what is kept back, over so many steps. */
  show(learnt: readonly Point[], heldOut: readonly Point[], nSteps: number): void {
    this.#again = () => this.#draw(learnt, heldOut, nSteps);
    this.#again();
  }

  #draw(learnt: readonly Point[], heldOut: readonly Point[], nSteps: number): void {
    const losses = [...learnt, ...heldOut].map(([, loss]) => loss);
    const [least, most] = losses.length > 0 ? [Math.min(...losses), Math.max(...losses)] : [0, 1];
    const room = Math.max(most - least, 0.1) * 0.06;
    const [low, high] = [Math.max(0, least - room), most + room];
    const width = this.#svg.clientWidth || USUAL_WIDTH;
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const x = (step: number) => LEFT + (step / Math.max(nSteps, 1)) * (width - LEFT - RIGHT);
    const y = (loss: number) => TOP + ((high - loss) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const parts: SVGElement[] = [];
    for (const loss of ticks(low, high)) {
      parts.push(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(loss), y2: y(loss) }));
      const label = String(Number(loss.toPrecision(3)));
      parts.push(element("text", { x: LEFT - 8, y: y(loss) + 4, "text-anchor": "end" }, label));
    }
    for (const step of ticks(0, nSteps).filter(Number.isInteger))
      parts.push(element("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, String(step)));
    const line = (name: string, points: readonly Point[]) => {
      const path = points.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
      parts.push(element("polyline", { class: name, points: path }));
    };
    line("learnt", learnt);
    line("held-out", heldOut);
    for (const [step, loss] of heldOut)
      parts.push(element("circle", { class: "held-out", cx: x(step), cy: y(loss), r: 3.5 }));
    this.#svg.replaceChildren(...parts);
    const [first, last] = [learnt[0]?.[1], learnt.at(-1)?.[1]];
    const told = first === undefined || last === undefined ? "" : `: from ${first.toFixed(2)} to ${last.toFixed(2)}`;
    this.#svg.setAttribute("aria-label", `Loss by step${told}`);
  }
}
