/** The memory of the kernels: as much address space as the browser grants. */

/** Pages of 64 KiB. 4 GiB is all that 32 bits can address. */
const MAX_PAGES = 65536;
/** Pages that the modules begin with. */
const FIRST_PAGES = 32;
/** 256 MiB: with less, a shared memory is of no use. */
const MIN_PAGES = 4096;
/** Room for everything but the weights: caches, and the intermediate results of a pass. */
const SPARE_BYTES = 256 << 20;

/** A memory, and how far it can grow. */
export interface KernelMemory {
  memory: WebAssembly.Memory;
  maxBytes: number;
}

/**
 * Whether this browser passes a memory on to another thread. WebKitGTK makes shared memories also where it does not:
 * then it lacks `SharedArrayBuffer`, though the page is cross-origin isolated.
 */
export function canShare(): boolean {
  return globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer === "function";
}

/**
 * A memory that can grow to 4 GiB or, where that is refused, to the half of it, and so on. A browser reserves the
 * addresses of a shared memory at once, and phones have too few. Returns `null` where a shared memory is refused in
 * every size; an unshared one throws then.
 *
 * The modules name 4 GiB as their maximum. A memory whose own maximum is smaller fits them as well.
 */
export function newMemory(shared: boolean): KernelMemory | null {
  for (let maximum = MAX_PAGES; ; maximum /= 2) {
    try {
      const memory = new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared });
      return { memory, maxBytes: maximum * 65536 };
    } catch (error) {
      if (maximum > MIN_PAGES) continue;
      if (shared) return null;
      throw error;
    }
  }
}

/** Whether weights of so many bytes, and what goes with them, fit. */
export function canHold({ maxBytes }: KernelMemory, weightBytes: number): boolean {
  return weightBytes + SPARE_BYTES <= maxBytes;
}
