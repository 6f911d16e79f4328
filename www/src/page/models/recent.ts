/** Names of models that were loaded before, newest first. */

const KEY = "gpt2-web.models";
const MOST = 12;

/** The names; none where the browser keeps nothing. */
export function recall(): string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((name) => typeof name === "string") : [];
  } catch {
    return []; // a list of suggestions is no loss; `settings.ts` says where storage is forbidden
  }
}

/** Puts a name first. */
export function remember(name: string): void {
  const names = [name, ...recall().filter((other) => other !== name)].slice(0, MOST);
  try {
    localStorage.setItem(KEY, JSON.stringify(names));
  } catch {
    // as above
  }
}
