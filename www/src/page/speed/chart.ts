/** Speed by the length of the text before it, as lines. What they show stands in the table too. */

import uPlot from "uplot";
import { configurationText, type Measured, type SpeedAt } from "./measure.js";

const HEIGHT = 260;

/** Formats differ by colour and by dashes, devices by how thick their lines are. */
const LOOKS: Record<Measured["dtype"], { colour: string; dash: number[] }> = {
  q8: { colour: "--accent", dash: [] },
  q4: { colour: "--line-q4", dash: [8, 4] },
  fp16: { colour: "--line-fp16", dash: [3, 3] },
  fp32: { colour: "--muted", dash: [12, 3, 2, 3] },
};

/** A limit that is farther off than so many times the fastest would press all lines onto the floor. */
const FARTHEST_LIMIT = 2.5;

/** A line at one height. */
export interface Limit {
  name: string;
  tokens_per_second: number;
}

/** A chart in a box that it fills. */
export class SpeedChart {
  readonly #box: HTMLElement;
  readonly #speeds: (result: Measured) => SpeedAt[];
  #plot: uPlot | null = null;

  constructor(box: HTMLElement, speeds: (result: Measured) => SpeedAt[]) {
    [this.#box, this.#speeds] = [box, speeds];
    new ResizeObserver(() => {
      if (this.#plot && box.clientWidth > 0) this.#plot.setSize({ width: box.clientWidth, height: HEIGHT });
    }).observe(box);
  }

  /** Draws results, and a limit where there is one. */
  show(results: readonly Measured[], limit: Limit | null): void {
    this.#plot?.destroy();
    this.#plot = null;
    if (results.length === 0 || this.#box.clientWidth === 0) return;
    const style = getComputedStyle(this.#box);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const x = [...new Set(results.flatMap((one) => this.#speeds(one).map(({ n_tokens }) => n_tokens)))].sort(
      (a, b) => a - b,
    );
    const lines = results.map((one) =>
      x.map((n) => this.#speeds(one).find(({ n_tokens }) => n_tokens === n)?.tokens_per_second ?? null),
    );
    const series: uPlot.Series[] = results.map((one) => {
      const look = LOOKS[one.dtype];
      const stroke = colour(look.colour);
      const value = (_: uPlot, y: number | null) => (y == null ? "–" : `${y.toFixed(0)}/s`);
      return {
        label: configurationText(one),
        stroke,
        width: one.device === "webgpu" ? 3.5 : 1.75,
        dash: look.dash,
        points: { size: 7, fill: stroke },
        value,
      };
    });
    const fastest = Math.max(...lines.flat().map((y) => y ?? 0));
    if (limit && limit.tokens_per_second <= FARTHEST_LIMIT * fastest) {
      lines.push(x.map(() => limit.tokens_per_second));
      series.push({
        label: limit.name,
        stroke: colour("--muted"),
        width: 1,
        dash: [2, 4],
        points: { show: false },
        value: (_, y) => (y == null ? "–" : `${y.toFixed(0)}/s`),
      });
    }
    const axis: uPlot.Axis = {
      stroke: colour("--muted"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const options: uPlot.Options = {
      width: this.#box.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false, distr: 3, log: 2 }, y: { range: (_, __, most) => [0, most * 1.08] } },
      axes: [
        { ...axis, splits: () => x, values: (_, splits) => splits.map(String) },
        { ...axis, size: 56 },
      ],
      series: [{ label: "Tokens before" }, ...series],
      legend: { live: true },
      cursor: { drag: { x: false, y: false } },
    };
    this.#plot = new uPlot(options, [x, ...lines] as uPlot.AlignedData, this.#box);
  }
}
