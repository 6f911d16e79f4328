/** Gives the memory of bytes that nobody needs any more back at once: large buffers are collected late, and add up. */
export function release({ buffer }: Uint8Array): void {
  // ES2024; where it is missing, the collector comes in its own time
  if (buffer instanceof ArrayBuffer) (buffer as { transfer?(nBytes: number): ArrayBuffer }).transfer?.(0);
}
