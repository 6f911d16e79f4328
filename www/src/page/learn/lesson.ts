/** A learning under way: its plot, its figures, its samples, and what comes of it. */

import type { Generator } from "../../api/index.js";
import { countText, durationText, rateText } from "../../elements/figures.js";
import type { FinetuneEvent, FinetuneRun, LearnedModel } from "../../learn/index.js";
import { keepAdapter, turnOn } from "../adapters.js";
import { announce, byId } from "../dom.js";
import { LossPlot, type Point } from "./plot.js";
import { showSample } from "./samples.js";

const bar = byId("learn-progress", HTMLProgressElement);
const told = byId("learn-told", HTMLParagraphElement);

/** Between two times that a screen reader hears how far it is. */
const SAY_MS = 10_000;

function figuresText({ step, steps, loss, tokens_per_second, eta_ms }: FinetuneEvent, heldOut: number | null): string {
  return [
    `step ${step} of ${steps}`,
    `loss ${loss.toFixed(2)}`,
    ...(heldOut === null ? [] : [`kept back ${heldOut.toFixed(2)}`]),
    rateText(tokens_per_second),
    ...(eta_ms > 0 ? [`${durationText(eta_ms)} left`] : []),
  ].join(" · ");
}

/** How it ended, in words. */
function endText(last: FinetuneEvent, first: number | null, kept: { step: number; eval_loss: number | null }): string {
  const why = last.step < last.steps ? "Ended early" : "Done";
  const from = first !== null && kept.eval_loss !== null ? ` ${first.toFixed(2)} to ${kept.eval_loss.toFixed(2)}` : "";
  const better = from === "" ? "" : `: the loss on what was kept back went from${from}`;
  return `${why} after ${countText(last.step, "step")}${better}. Kept as it was after step ${kept.step}.`;
}

export class Lesson {
  readonly #run: FinetuneRun;
  readonly #plot = new LossPlot();
  readonly #isCancelled: () => boolean;

  constructor(run: FinetuneRun, isCancelled: () => boolean) {
    [this.#run, this.#isCancelled] = [run, isCancelled];
  }

  /** Ends it, and keeps what it has. */
  stop(): void {
    this.#run.stop();
  }

  /**
   * Shows it to its end. Returns the model, or null where an adapter was learnt, which is on and kept; also null where
   * it was cancelled.
   */
  async follow(generator: Generator, method: "lora" | "full"): Promise<LearnedModel | null> {
    bar.removeAttribute("value");
    told.textContent = "Getting ready…";
    const learnt: Point[] = [];
    const heldOut: Point[] = [];
    this.#plot.show(learnt, heldOut, 1);
    const { steps, eval_loss: first } = await this.#run.started;
    if (first !== null) heldOut.push([0, first]);
    announce(`Learning, ${countText(steps, "step")}.`);
    let saidMs = performance.now();
    let [frame, last]: [number, FinetuneEvent | null] = [0, null];
    const draw = (): void => {
      frame = 0;
      this.#plot.show(learnt, heldOut, steps);
    };
    for await (const event of this.#run) {
      last = event;
      learnt.push([event.step, event.loss]);
      if (event.eval_loss !== null) heldOut.push([event.step, event.eval_loss]);
      bar.value = (100 * event.step) / event.steps;
      told.textContent = figuresText(event, heldOut.at(-1)?.[1] ?? null);
      frame ||= requestAnimationFrame(draw);
      if (performance.now() - saidMs < SAY_MS) continue;
      saidMs = performance.now();
      announce(told.textContent);
    }
    cancelAnimationFrame(frame);
    draw();
    const kept = method === "full" ? await this.#run.model : await this.#run.adapter;
    if (this.#isCancelled()) return null;
    bar.value = 100;
    if (last) told.textContent = endText(last, first, kept);
    announce(told.textContent);
    if ("name" in kept) {
      await keepAdapter(kept.name, await kept.save());
      await turnOn(kept.name);
      await showSample("after", (prompt, options) => generator.complete(prompt, { ...options, adapter: kept.name }));
      return null;
    }
    await showSample("after", (prompt, options) => this.#run.sample(prompt, options));
    return kept;
  }
}
