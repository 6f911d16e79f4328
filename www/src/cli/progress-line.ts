/** How far a conversion is: one line that changes in a terminal, a line for each tenth elsewhere. */

import type { ProgressEvent } from "../api/types.js";

const mb = (bytes: number) => (bytes / 1e6).toFixed(1);

export class ProgressLine {
  readonly #to: NodeJS.WriteStream;
  #isOpen = false;
  /** Tenths of the load that a line was written for. */
  #tenths = -1;

  constructor(to: NodeJS.WriteStream) {
    this.#to = to;
  }

  show({ status, progress, loaded, total, eta_ms: etaMs }: ProgressEvent): void {
    if (status !== "progress_total" || loaded === 0) return;
    const left = etaMs === null || etaMs === 0 ? "" : `, ${Math.ceil(etaMs / 1000)} s left`;
    const share = progress === null ? "" : `${progress.toFixed(0).padStart(3)} %  `;
    const text = `${share}${mb(loaded)}${progress === null ? "" : ` of ${mb(total)}`} MB${left}`;
    if (this.#to.isTTY) {
      this.#to.write(`\r${text.padEnd(60)}`);
      this.#isOpen = true;
      return;
    }
    const tenths = Math.floor((progress ?? 0) / 10);
    if (tenths <= this.#tenths) return;
    this.#tenths = tenths;
    this.#to.write(`${text}\n`);
  }

  /** What is written next begins a line. */
  end(): void {
    if (this.#isOpen) this.#to.write("\n");
    this.#isOpen = false;
  }
}
