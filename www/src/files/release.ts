/** Frees the memory of bytes that are no longer needed. The collector would free large buffers late. */
export function release({ buffer }: Uint8Array): void {
  // `transfer` is of ES2024. Where it is missing, the collector frees the memory.
  if (buffer instanceof ArrayBuffer) (buffer as { transfer?(nBytes: number): ArrayBuffer }).transfer?.(0);
}
