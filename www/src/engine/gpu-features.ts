/**
 * Features that not every GPU has, subgroups and `shader-f16`: used where they exist, until they fail. Runs in the
 * worker.
 *
 * In a page, wgpu asks the browser for `shader-f16` but does not know of subgroups, so those are asked for here.
 */

let isWanted = true;
let isPatched = false;
let isInUse = false;

/** From now on, devices are requested with subgroups where the GPU has them. */
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

/**
 * Asks for neither feature any more. Returns whether the device in use has one of them: then a new device, without
 * them, is worth a try.
 */
export function giveUpFeatures(): boolean {
  const wasInUse = isInUse;
  isWanted = isInUse = false;
  return wasInUse;
}
