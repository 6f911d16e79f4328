/** Subgroups of a GPU's threads: asked for on wgpu's behalf, which in a page does not know of them. Runs in the worker. */

let is_wanted = true;
let is_patched = false;
let is_in_use = false;

/** From here on every device has subgroups that can. */
export function askForSubgroups(): void {
  if (is_patched || typeof GPUAdapter === "undefined") return;
  is_patched = true;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    is_in_use = is_wanted && this.features.has("subgroups");
    const { requiredFeatures = [] } = descriptor;
    return requestDevice.call(this, is_in_use ? { ...descriptor, requiredFeatures: [...requiredFeatures, "subgroups"] } : descriptor);
  };
}

/** Asks for them no more. → whether the device in use has them, so that there is hope in another one */
export function giveUpSubgroups(): boolean {
  const was_in_use = is_in_use;
  is_wanted = is_in_use = false;
  return was_in_use;
}
