/** Addresses of files: how they are made from that of their folder, and what of them may be shown. */

/** Whether a text is a URL. `URL.canParse` is younger than some of the browsers that are to work. */
export function canParse(url: string, base?: string): boolean {
  try {
    new URL(url, base);
    return true;
  } catch {
    return false;
  }
}

/** The address of a file in a folder. What signs the folder's address, its query, signs each file's as well. */
export function fileUrl(file: string, base: string): string {
  const url = new URL(file, base);
  url.search = new URL(base).search;
  return url.href;
}

/** An address without what may be secret in it: the query, which may be a signature, and a password. */
export function shownUrl(url: string): string {
  if (!canParse(url)) return url.replace(/[?#].*$/s, "");
  const shown = new URL(url);
  [shown.search, shown.hash, shown.username, shown.password] = ["", "", "", ""];
  return shown.href;
}
