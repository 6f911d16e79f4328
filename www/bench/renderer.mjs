// What a browser's pages take of memory, as the system counts it (Linux only).
import { readFileSync, readdirSync } from "node:fs";

const read = (pid, file) => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // it has ended meanwhile
  }
};

/** The largest renderer of the browser that runs on a profile. → `{ now_mb, peak_mb }`, NaN where nothing can be known */
export function rendererMemory(profile) {
  let pids = [];
  try {
    pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return { now_mb: NaN, peak_mb: NaN };
  }
  const all = pids.map((pid) => {
    const status = read(pid, "status");
    const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? NaN);
    return { pid: Number(pid), parent: field("PPid"), command: read(pid, "cmdline"), now_mb: field("VmRSS") / 1024, peak_mb: field("VmHWM") / 1024 };
  });
  const is_in = new Set(all.filter((p) => p.command.includes(`--user-data-dir=${profile}`)).map((p) => p.pid));
  for (let n = -1; n !== is_in.size; ) {
    n = is_in.size;
    for (const p of all) if (is_in.has(p.parent)) is_in.add(p.pid);
  }
  const renderers = all.filter((p) => is_in.has(p.pid) && p.command.includes("--type=renderer")).sort((a, b) => b.peak_mb - a.peak_mb);
  const { now_mb, peak_mb } = renderers[0] ?? { now_mb: NaN, peak_mb: NaN };
  return { now_mb, peak_mb };
}
