/** Starting one of the modules of the kernels: which one this browser runs best, and what it exports. */

import { relaxedSimd } from "wasm-feature-detect";
import type { WorkerFile } from "../api/messages.js";
import { fetchModule } from "./fetch-module.js";
import { type KernelMemory, newMemory } from "./kernel-memory.js";
import { imports } from "./kernel-module.js";

/** What the module exports. */
export interface Exports {
  create(...numbers: number[]): number;
  image(): number;
  plan(n: number): number;
  adapter_new(number: number): void;
  adapter_numbers(n: number): number;
  adapter_add(adapter: number, layer: number, op: number, rank: number, scale: number): void;
  adapter_free(adapter: number): void;
  cache_new(adapter: number): number;
  cache_clone(cache: number): number;
  cache_truncate(cache: number, nTokens: number): void;
  cache_free(cache: number): void;
  cache_bytes(cache: number): number;
  caches_bytes(): number;
  forward(nTexts: number, withAttentions: number): number;
  advance(budgetMs: number): number;
  logits(text: number): number;
  n_logits(text: number): number;
  attentions(layer: number): number;
  n_attentions(layer: number): number;
  sweep(): number;
  fill(seed: number): void;
  use_byte_dots(isWanted: number): number;
  set_profile(isOn: number): void;
  op_ms(): number;
  // These three only the modules with shared memory have.
  set_members(nMembers: number): void;
  member_stack(): number;
  epoch(): number;
}

/** A module that is running. */
export interface Started extends KernelMemory {
  module: WebAssembly.Module;
  exports: Exports;
  /** Whether the memory can be shared with other threads. */
  isShared: boolean;
  /** Whether it has relaxed SIMD, with which a processor's instruction for products of bytes can be reached. */
  isRelaxed: boolean;
}

/** Where the package's files are, by name. */
export type KernelFiles = Readonly<Record<WorkerFile, string>>;

/** Compiles and starts a module, for several threads if there is a shared memory. */
export async function startModule(
  files: KernelFiles,
  shared: KernelMemory | null,
  signal: AbortSignal,
): Promise<Started> {
  const isRelaxed = await relaxedSimd();
  const name = `kernels${isRelaxed ? "-relaxed" : ""}${shared ? "-threads" : ""}.wasm` as const;
  const response = await fetchModule(name, files[name], signal);
  const module = await WebAssembly.compile(await response.arrayBuffer());
  const { memory, maxBytes } = shared ?? (newMemory(false) as KernelMemory);
  const { exports } = await WebAssembly.instantiate(module, imports(memory));
  return { module, memory, maxBytes, exports: exports as unknown as Exports, isShared: shared !== null, isRelaxed };
}
