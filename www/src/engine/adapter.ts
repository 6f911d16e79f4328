/** The browser's GPU, as far as it tells of it. Runs in the worker. */

interface MaybeFallback {
  isFallbackAdapter?: boolean;
}

/** A GPU as Rust knows it, by these names: what it is called, and what it takes at most. */
export interface Adapter {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  /** Whether it is software that runs on the CPU: `auto` uses none, since the CPU engine is faster. */
  is_software: boolean;
  limits: {
    max_buffer_size: number;
    max_storage_buffer_binding_size: number;
    max_storage_buffers_per_shader_stage: number;
  };
}

/** Words in the names of adapters that are software. */
const SOFTWARE = ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render", "warp"];

/** Describes the browser's GPU, `undefined` where it offers none. Its limits tell beforehand whether a model fits. */
export async function describeAdapter(): Promise<Adapter | undefined> {
  if (!("gpu" in navigator)) return undefined;
  // A browser that lists WebGPU may still fail to start it: that is the same as none.
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return undefined;
  // Older browsers have no `info`, or say on the adapter itself that it is a fallback.
  const info = adapter.info as (Partial<GPUAdapterInfo> & MaybeFallback) | undefined;
  const { vendor = "", architecture = "", device = "", description = "" } = info ?? {};
  const isFallback = info?.isFallbackAdapter ?? (adapter as MaybeFallback).isFallbackAdapter ?? false;
  const names = [vendor, architecture, device, description].join(" ").toLowerCase();
  return {
    vendor,
    architecture,
    device,
    description,
    is_software: isFallback || SOFTWARE.some((name) => names.includes(name)),
    limits: {
      max_buffer_size: adapter.limits.maxBufferSize,
      max_storage_buffer_binding_size: adapter.limits.maxStorageBufferBindingSize,
      max_storage_buffers_per_shader_stage: adapter.limits.maxStorageBuffersPerShaderStage,
    },
  };
}
