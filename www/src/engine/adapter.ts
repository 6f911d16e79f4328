/** The browser's GPU, as far as it tells of it. Runs in the worker. */

interface MaybeFallback {
  isFallbackAdapter?: boolean;
}

/**
 * Describes the browser's GPU as JSON, `undefined` where it offers none. Whether the GPU is used is decided in Rust, by
 * this description; its limits tell beforehand whether a model can run there.
 */
export async function describeAdapter(): Promise<string | undefined> {
  if (!("gpu" in navigator)) return undefined;
  // A browser that lists WebGPU may still fail to start it: that is the same as none.
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return undefined;
  // Older browsers have no `info`, or say on the adapter itself that it is a fallback.
  const info = adapter.info as (Partial<GPUAdapterInfo> & MaybeFallback) | undefined;
  const { vendor = "", architecture = "", device = "", description = "" } = info ?? {};
  const isFallback = info?.isFallbackAdapter ?? (adapter as MaybeFallback).isFallbackAdapter ?? false;
  const limits = {
    max_buffer_size: adapter.limits.maxBufferSize,
    max_storage_buffer_binding_size: adapter.limits.maxStorageBufferBindingSize,
    max_storage_buffers_per_shader_stage: adapter.limits.maxStorageBuffersPerShaderStage,
  };
  return JSON.stringify({ vendor, architecture, device, description, is_fallback: isFallback, limits });
}
