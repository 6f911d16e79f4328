// What a browser's pages take of memory, as the system counts it (Linux only).
import { readdirSync, readFileSync } from "node:fs";

const read = (pid, file) => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // it has ended meanwhile, or this is not Linux
  }
};

const field = (pid, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(read(pid, "status"))?.[1] ?? NaN);

/** The renderer processes of the browser that runs on a profile. */
function renderers(profile) {
  let pids = [];
  try {
    pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  const all = pids.map((pid) => ({ pid, parent: String(field(pid, "PPid")), command: read(pid, "cmdline") }));
  const isIn = new Set(all.filter((p) => p.command.includes(`--user-data-dir=${profile}`)).map((p) => p.pid));
  for (let n = -1; n !== isIn.size; ) {
    n = isIn.size;
    for (const p of all) if (isIn.has(p.parent)) isIn.add(p.pid);
  }
  return all.filter((p) => isIn.has(p.pid) && p.command.includes("--type=renderer")).map((p) => p.pid);
}

/**
 * Watches the renderers of the browser on a profile, which may be about to start. `read()` gives `{ nowMb, peakMb }`
 * of the largest, NaN where nothing can be known. The peak is looked at again and again: a browser that counts its own
 * memory sets it back.
 */
export function watchRenderers(profile) {
  const peaks = new Map();
  const find = () => {
    for (const pid of renderers(profile)) if (!peaks.has(pid)) peaks.set(pid, 0);
  };
  const look = () => {
    for (const [pid, peak] of peaks) peaks.set(pid, Math.max(peak, field(pid, "VmHWM") / 1024 || 0));
  };
  const timers = [setInterval(find, 500), setInterval(look, 100)];
  return {
    read() {
      find();
      look();
      const [pid, peakMb] = [...peaks].sort(([, a], [, b]) => b - a)[0] ?? [0, NaN];
      return { nowMb: field(pid, "VmRSS") / 1024, peakMb };
    },
    stop: () => timers.forEach(clearInterval),
  };
}
