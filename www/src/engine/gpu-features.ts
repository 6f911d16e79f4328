/**
 * What a GPU may offer beyond WebGPU's base: asked for where it helps, and given up where it fails. Runs in the worker.
 *
 * Subgroups are asked for on wgpu's behalf, which in a page does not know of them. `shader-f16` wgpu asks for by itself.
 */

let is_wanted = true;
let is_patched = false;
let is_in_use = false;

/** From here on every device has subgroups that can. */
export function askForFeatures(): void {
  if (is_patched || typeof GPUAdapter === "undefined") return;
  is_patched = true;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    const features = new Set(descriptor.requiredFeatures);
    if (is_wanted && this.features.has("subgroups")) features.add("subgroups");
    if (!is_wanted) features.delete("shader-f16");
    is_in_use = features.has("subgroups") || features.has("shader-f16");
    return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
  };
}

/** Asks for neither any more. → whether the device in use has one of them, so that there is hope in another one */
export function giveUpFeatures(): boolean {
  const was_in_use = is_in_use;
  is_wanted = is_in_use = false;
  return was_in_use;
}
