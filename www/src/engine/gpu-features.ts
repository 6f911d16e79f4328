/**
 * What a GPU may offer beyond WebGPU's base: asked for where it helps, and given up where it fails. Runs in the worker.
 *
 * Subgroups are asked for on wgpu's behalf, which in a page does not know of them. `shader-f16` wgpu asks for by itself.
 */

let isWanted = true;
let isPatched = false;
let isInUse = false;

/** From here on every device has subgroups that can. */
export function askForFeatures(): void {
  if (isPatched || typeof GPUAdapter === "undefined") return;
  isPatched = true;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    const features = new Set(descriptor.requiredFeatures);
    if (isWanted && this.features.has("subgroups")) features.add("subgroups");
    if (!isWanted) features.delete("shader-f16");
    isInUse = features.has("subgroups") || features.has("shader-f16");
    return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
  };
}

/** Asks for neither any more. → whether the device in use has one of them, so that there is hope in another one */
export function giveUpFeatures(): boolean {
  const wasInUse = isInUse;
  isWanted = isInUse = false;
  return wasInUse;
}
