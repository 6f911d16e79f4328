/** The LoRA adapters of a model: those that are loaded, and the sums of them that texts are computed with. */

import type { Model } from "../../wasm/gpt2_web.js";
import { invalidOption } from "../api/errors.js";
import type { LoraAdapterInfo } from "../api/lora-types.js";
import type { WireChoice } from "../api/messages.js";
import type { AdapterFiles } from "./lora-files.js";

/** So many sums that no text uses are kept, since they may be chosen again. */
const MAX_IDLE_SUMS = 8;

/** LoRA adapters by name, each with the weight that counts. */
export type Weights = Record<string, number>;

/** An adapter that was read. */
interface Loaded {
  /** Its number in the engine. */
  number: number;
  source: string;
  weight: number;
  parameters: number;
  rank: number;
}

/** What the engine adds to the model for a text: adapters, each with its weight. */
interface Sum {
  /** Its number in the engine, once the engine has it. */
  number: Promise<number>;
  /** The numbers of its adapters. */
  parts: number[];
  nUsers: number;
}

export class LoraAdapters {
  #model: Model;
  #loaded = new Map<string, Loaded>();
  /** Names of adapters that are on their way. */
  #reserved = new Set<string>();
  /** What texts have that choose nothing themselves. */
  #chosen: WireChoice = [];
  /** By what they consist of, the most recently used last. */
  #sums = new Map<string, Sum>();
  /** Adapters that were given up, but are parts of sums which texts still use. */
  #leaving = new Set<number>();
  /** The end of what adds to the model or moves to another: one after the other, so that a move takes all along. */
  #lastTurn: Promise<unknown> = Promise.resolve();

  constructor(model: Model) {
    this.#model = model;
  }

  /** Takes a name for an adapter that is to be loaded: the one asked for, or one made from where it is from. */
  reserve(name: string | null, source: string): string {
    const isTaken = (name: string) => this.#loaded.has(name) || this.#reserved.has(name);
    if (name !== null && isTaken(name)) throw invalidOption("name", "one that no loaded adapter has", name);
    const last = source.split("/").filter(Boolean).at(-1);
    const short = last === undefined || last === "files" ? "adapter" : last;
    let free = name ?? short;
    for (let i = 2; isTaken(free); i++) free = `${short}-${i}`;
    this.#reserved.add(free);
    return free;
  }

  /** Gives a reserved name back, whether or not its adapter was loaded. */
  giveBack(name: string): void {
    this.#reserved.delete(name);
  }

  /** Loads an adapter. */
  add(name: string, { config, weights, source, weight }: AdapterFiles & { source: string; weight: number }) {
    return this.#inTurn(() => {
      const read = this.#model.readAdapter(config, weights) as Pick<Loaded, "number" | "parameters" | "rank">;
      const loaded = { ...read, source, weight };
      this.#loaded.set(name, loaded);
      return this.#info(name, loaded);
    });
  }

  /** Chooses what texts have that choose nothing themselves. */
  choose(choice: WireChoice): void {
    this.#weigh(choice);
    this.#chosen = choice;
  }

  /** Gives an adapter up. Texts that are being written with it go on. Returns whether there was one. */
  unload(name: string): boolean {
    const loaded = this.#loaded.get(name);
    if (!loaded) return false;
    this.#loaded.delete(name);
    this.#chosen = this.#chosen.filter(([chosen]) => chosen !== name);
    this.#leaving.add(loaded.number);
    this.#tidy();
    return true;
  }

  list(): LoraAdapterInfo[] {
    return [...this.#loaded].map(([name, loaded]) => this.#info(name, loaded));
  }

  /**
   * Does something with a text that has what is chosen, or what was set. It gets the engine's number for that,
   * `undefined` for none, and the weights by name, which are there until it is done.
   */
  async using<T>(
    choice: WireChoice | undefined,
    run: (adapter: number | undefined, weights: Weights | null) => Promise<T>,
  ): Promise<T> {
    const weights = this.#weigh(choice ?? this.#chosen);
    if (weights.length === 0) return run(undefined, null);
    const sum = this.#sum(weights.map(([, weight, { number }]) => [number, weight]));
    sum.nUsers += 1;
    try {
      return await run(await sum.number, Object.fromEntries(weights.map(([name, weight]) => [name, weight])));
    } finally {
      sum.nUsers -= 1;
      this.#tidy();
    }
  }

  /** Takes all to another load of the same model, before its texts. */
  moveTo(model: Model): Promise<void> {
    return this.#inTurn(() => {
      const taken = model.takeAdapters(this.#model) as Promise<void>;
      this.#model = model;
      return taken;
    });
  }

  #inTurn<T>(run: () => T | Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(run);
    this.#lastTurn = turn.catch(() => undefined); // whoever asked for it hears what went wrong
    return turn;
  }

  /** What counts of a choice, in the order of the names, so that the same choice gives the same bits. */
  #weigh(choice: WireChoice): [name: string, weight: number, Loaded][] {
    const all = choice.map(([name, weight]): [string, number, Loaded] => {
      const loaded = this.#loaded.get(name);
      if (!loaded) {
        const names = [...this.#loaded.keys()].map((name) => JSON.stringify(name)).join(", ");
        throw invalidOption("adapter", names ? `one of those loaded (${names})` : "none, since none is loaded", name);
      }
      return [name, weight ?? loaded.weight, loaded];
    });
    return all.filter(([, weight]) => weight !== 0).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  #sum(parts: [number: number, weight: number][]): Sum {
    const key = JSON.stringify(parts);
    const known = this.#sums.get(key);
    const numbers = parts.map(([number]) => number);
    const sum = known ?? { number: this.#give(parts), parts: numbers, nUsers: 0 };
    this.#sums.delete(key);
    this.#sums.set(key, sum);
    if (!known) {
      sum.number.catch(() => {
        if (this.#sums.get(key) === sum) this.#sums.delete(key); // it may be tried again
      });
    }
    return sum;
  }

  /** Has the engine compute a sum. Returns its number there. */
  #give(parts: [number: number, weight: number][]): Promise<number> {
    const numbers = Uint32Array.from(parts, ([number]) => number);
    const weights = Float32Array.from(parts, ([, weight]) => weight);
    return this.#inTurn(() => this.#model.addAdapters(numbers, weights) as Promise<number>);
  }

  /** Frees what nobody uses any more. */
  #tidy(): void {
    const idle = [...this.#sums].filter(([, sum]) => sum.nUsers === 0);
    const isLeaving = (sum: Sum) => sum.parts.some((number) => this.#leaving.has(number));
    const kept = idle.filter(([, sum]) => !isLeaving(sum)).slice(-MAX_IDLE_SUMS);
    for (const [key, sum] of idle) {
      if (kept.some(([other]) => other === key)) continue;
      this.#sums.delete(key);
      void sum.number.then((number) => this.#model.freeAdapter(number)); // nobody uses it, so it is there
    }
    for (const number of this.#leaving) {
      if ([...this.#sums.values()].some((sum) => sum.parts.includes(number))) continue;
      this.#leaving.delete(number);
      this.#model.freeAdapter(number);
    }
  }

  #info(name: string, { source, weight, parameters, rank }: Loaded): LoraAdapterInfo {
    const chosen = this.#chosen.find(([other]) => other === name);
    return { name, source, weight, active_weight: chosen ? (chosen[1] ?? weight) : 0, parameters, rank };
  }
}
