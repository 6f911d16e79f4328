// What the tests of the GPU engine see of it from outside.

/**
 * Runs in the worker before the package does: counts calls, and keeps the device to destroy it. Tells `{ counts }` when
 * it is asked, and `{ devicesLeft }` when a device is destroyed. `broken`: a pipeline of this label does not compile;
 * `full`: there is no memory for buffers of this label, which the message `isFull: false` changes;
 * `vendor`: the adapter says that it is this one's; `withoutSubgroups`: it has none; `claimsF16`: it says that it has
 * `shader-f16`, and compiles nothing that uses it.
 */
function watchGpu({ broken, full, vendor, withoutSubgroups, claimsF16 }) {
  const counts = { readBytes: 0, withSubgroups: 0, withF16: 0 };
  let device;
  const devices = new Set();
  let submitsLeft = 0;
  let isGone = false;
  let isFull = true;
  const wrap = (type, name, around) => {
    const original = type.prototype[name];
    counts[name] ??= 0;
    type.prototype[name] = function (...given) {
      counts[name] += 1;
      const call = () => original.apply(this, given);
      return around ? around(call, given, this) : call();
    };
  };
  wrap(GPU, "requestAdapter", (call) => (isGone ? Promise.resolve(null) : call()));
  if (withoutSubgroups) GPUSupportedFeatures.prototype.has = () => false;
  const withoutF16 = new WeakSet();
  if (claimsF16) {
    const { has } = GPUSupportedFeatures.prototype;
    GPUSupportedFeatures.prototype.has = function (name) {
      return name === "shader-f16" ? !withoutF16.has(this) : has.call(this, name);
    };
  }
  wrap(GPUAdapter, "requestDevice", async (call, given) => {
    const { requiredFeatures } = given[0];
    const hasF16 = requiredFeatures.includes("shader-f16");
    if (claimsF16)
      given[0] = { ...given[0], requiredFeatures: requiredFeatures.filter((name) => name !== "shader-f16") };
    device = await call();
    counts.withSubgroups += requiredFeatures.includes("subgroups") ? 1 : 0;
    counts.withF16 += hasF16 ? 1 : 0;
    if (!hasF16) withoutF16.add(device.features);
    devices.add(device);
    return device;
  });
  // The device is not really full: it is said so where the engine asks.
  const scopes = [];
  wrap(GPUDevice, "pushErrorScope", (call, [filter]) => {
    scopes.push({ filter, isRefused: false });
    return call();
  });
  wrap(GPUDevice, "popErrorScope", (call) => {
    const { isRefused } = scopes.pop();
    return isRefused ? call().then(() => new GPUOutOfMemoryError("no room")) : call();
  });
  wrap(GPUDevice, "createBuffer", (call, [{ label }]) => {
    const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
    if (full !== undefined && isFull && label === full && scope) scope.isRefused = true;
    return call();
  });
  for (const name of ["createBindGroup", "createShaderModule", "createComputePipeline"]) wrap(GPUDevice, name);
  wrap(GPUDevice, "createComputePipelineAsync", (call, [{ label }]) =>
    label === broken ? Promise.reject(new GPUPipelineError("out of registers", { reason: "internal" })) : call(),
  );
  if (vendor)
    Object.defineProperty(GPUAdapter.prototype, "info", {
      get: () => ({ vendor, architecture: "", device: "", description: "" }),
    });
  for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) wrap(GPUComputePassEncoder, name);
  wrap(GPUBuffer, "mapAsync", (call, [, offset = 0, size], buffer) => {
    counts.readBytes += size ?? buffer.size - offset;
    return call();
  });
  wrap(GPUQueue, "submit", (call) => {
    call();
    if (submitsLeft > 0 && --submitsLeft === 0) device.destroy();
  });
  wrap(GPUDevice, "destroy", (call, _, device) => {
    call();
    devices.delete(device);
    postMessage({ told: { devicesLeft: devices.size } });
  });
  // registered before the package's own listener, which does not know of such messages
  addEventListener("message", (event) => {
    const { watched } = event.data;
    if (!watched) return;
    event.stopImmediatePropagation();
    submitsLeft = watched.destroyAfter ?? submitsLeft;
    isGone = watched.isGone ?? isGone;
    isFull = watched.isFull ?? isFull;
    if (watched.destroyNow) device.destroy();
    postMessage({ told: { counts: { ...counts } } });
  });
}

/** Runs in the page: what the tests watch workers with. */
async function prepareWatching(watchGpu) {
  /** A worker whose WebGPU is watched. */
  window.watched = (how) => {
    const worker = workerAfter(watchGpu, how);
    /** Tells the watcher something. → the counts so far */
    worker.tell = (message) =>
      new Promise((resolve) => {
        const hear = ({ data }) => {
          if (!data.counts) return;
          worker.removeEventListener("told", hear);
          resolve(data.counts);
        };
        worker.addEventListener("told", hear);
        worker.postMessage({ watched: message });
      });
    return worker;
  };
  window.events = [];
  /** Loads the generator that the tests share, in `window.worker`; `window.events` gets its progress. */
  window.openWatched = async (how) => {
    window.worker = watched(how);
    const progress_callback = (event) => events.push(event);
    window.generator = await gpt2.createGenerator("demo", { device: "webgpu", worker, progress_callback });
  };
}

/** Makes `watched` and `openWatched` known to a page. */
export const watchGpuIn = (page) => page.evaluate(prepareWatching, watchGpu.toString());
