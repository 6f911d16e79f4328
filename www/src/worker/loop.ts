/** The loop that runs the model: pass after pass for all texts together, and messages in between. In the worker. */

import type { Scheduler } from "../../wasm/gpt2_web.js";
import { abortError } from "../api/errors.js";
import { breathe } from "../engine/breathe.js";
import type { Metrics } from "./metrics.js";
import type { Task, TextEvent } from "./task.js";
import { isTrap } from "./wasm.js";

/**
 * Tokens of a prompt that one step reads, after which the page is told how far it is. On the GPU a pass lets no message
 * in; on the CPU it pauses for them.
 */
const PROMPT_TOKENS = { wasm: 64, webgpu: 256 };

/** What the loop needs of the model; all of it may change when a device is lost. */
export interface Machine {
  device(): "wasm" | "webgpu";
  /** Finds another device for the model and its texts after theirs was lost; throws where there is none. */
  recover(lost: Error): Promise<void>;
}

export class Loop {
  #scheduler: Scheduler;
  #machine: Machine;
  #metrics: Metrics;
  /** What is under way, and how each is settled. */
  #tasks = new Map<Task, { resolve: () => void; reject: (error: unknown) => void }>();
  #isRunning = false;

  constructor(scheduler: Scheduler, machine: Machine, metrics: Metrics) {
    this.#scheduler = scheduler;
    this.#machine = machine;
    this.#metrics = metrics;
  }

  /** Runs texts that the scheduler has. Resolves when all are complete or interrupted; they have left it then. */
  run(task: Task): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#tasks.set(task, { resolve, reject });
      if (!this.#isRunning) void this.#go();
    });
  }

  /** Whether the pass that is running is still wanted by anybody. */
  isWanted(): boolean {
    const running = this.#scheduler.running();
    const wanted = [...this.#tasks.keys()].filter(({ pace }) => !pace.signal.aborted && !pace.interrupted());
    return running.length === 0 || [...running].some((id) => wanted.some((task) => task.has(id)));
  }

  async #go(): Promise<void> {
    this.#isRunning = true;
    try {
      for (let hasRecovered = false; this.#tasks.size > 0; ) {
        await breathe();
        this.#endUnwanted();
        if (this.#tasks.size === 0) break;
        try {
          await this.#step();
          hasRecovered = false;
        } catch (error) {
          if (isInterrupted(error)) continue;
          // a device that cannot do a single step is of no use; the texts and their random states are as before it
          if (!isLost(error) || hasRecovered) throw error;
          await this.#machine.recover(error);
          hasRecovered = true;
        }
      }
    } catch (error) {
      for (const task of this.#tasks.keys()) this.#end(task, error);
    } finally {
      this.#isRunning = false;
    }
  }

  async #step(): Promise<void> {
    const [startMs, before] = [performance.now(), this.#metrics.counters()];
    const events = (await this.#scheduler.step(PROMPT_TOKENS[this.#machine.device()])) as TextEvent[];
    const ms = performance.now() - startMs;
    for (const event of events) {
      const task = [...this.#tasks.keys()].find((task) => task.has(event.id));
      if (!task) continue; // another text of its request has failed in the same pass
      if (event.kind === "failed") {
        this.#end(task, event.error);
        continue;
      }
      task.take(event);
      if (task.isDone()) this.#end(task);
    }
    this.#metrics.step(events, ms, before);
  }

  #endUnwanted(): void {
    for (const task of this.#tasks.keys()) {
      if (task.pace.signal.aborted) {
        this.#end(task, abortError());
      } else if (task.pace.interrupted()) {
        task.interrupt();
        this.#end(task);
      }
    }
  }

  #end(task: Task, error?: unknown): void {
    const settle = this.#tasks.get(task);
    this.#tasks.delete(task);
    // WebAssembly that has trapped gives nothing back
    if (!isTrap(error)) task.leave();
    if (error === undefined) settle?.resolve();
    else settle?.reject(error);
  }
}

/** Whether an error says that a step was stopped in the middle because nobody wants it any more. */
function isInterrupted(error: unknown): boolean {
  return (error as { code?: string } | null)?.code === "interrupted";
}

/** Whether an error says that the device is gone. */
function isLost(error: unknown): error is Error {
  return (error as { code?: string } | null)?.code === "device_lost";
}
