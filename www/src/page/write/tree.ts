/**
 * A text and all that it was: a tree of versions. Each version is an edit of the one that it came from; nothing is ever
 * lost by an undo, since writing on from an earlier version begins a branch there.
 */

import type { Recipe } from "../../api/index.js";

/** Whose ink it is. */
export type Author = "you" | "model";

/** A version: what it changed in its parent's text. */
export interface Version {
  id: number;
  /** The version that it came from; null for the first, whose text is `inserted`. */
  parent: number | null;
  /** Where it changed the text, in UTF-16 units. */
  at: number;
  /** How much it took away there. */
  removed: number;
  /** What it put there. */
  inserted: string;
  by: Author;
  /** When it was made, ISO 8601. */
  made: string;
  /** What writes it again, where a model wrote it. */
  recipe?: Recipe;
  /** What a person called it. */
  name?: string;
}

/** A part of a text in the model's ink: [start, end). */
export type Mark = readonly [start: number, end: number];

/** A version's text, and what of it the model wrote. */
export interface Written {
  text: string;
  marks: Mark[];
}

/** The tree as JSON. */
export interface TreeJson {
  format: "gpt2-web-text";
  version: 1;
  current: number;
  versions: Version[];
}

/** An edit as it is recorded. */
export type Edit = Pick<Version, "at" | "removed" | "inserted" | "by"> & Partial<Pick<Version, "recipe">>;

/** How long a stretch of typing is one step of undo. */
const MOST_TYPED = 60;

/** What turns `before` into `after`: the shortest stretch that ends at the caret if there are several. */
export function difference(before: string, after: string, caret: number): Pick<Edit, "at" | "removed" | "inserted"> {
  const most = Math.min(before.length, after.length);
  let end = 0;
  // What stands behind the caret is not what was typed.
  while (end < most && end < after.length - caret && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  let at = 0;
  while (at < most - end && before[at] === after[at]) at += 1;
  return { at, removed: before.length - end - at, inserted: after.slice(at, after.length - end) };
}

/** The marks after an edit. */
function shifted(marks: readonly Mark[], { at, removed, inserted, by }: Edit): Mark[] {
  const grown = inserted.length - removed;
  const result: Mark[] = [];
  for (const [start, end] of marks) {
    if (start < at) result.push([start, Math.min(end, at)]);
    if (end > at + removed) result.push([Math.max(start, at + removed) + grown, end + grown]);
  }
  if (by === "model" && inserted !== "") result.push([at, at + inserted.length]);
  result.sort((a, b) => a[0] - b[0]);
  return result.reduce<Mark[]>((joined, mark) => {
    const last = joined.at(-1);
    if (last && last[1] >= mark[0]) joined[joined.length - 1] = [last[0], Math.max(last[1], mark[1])];
    else joined.push(mark);
    return joined;
  }, []);
}

/** Versions, the one that is shown, and the way that was gone through them, for undo. */
export class TextTree {
  #versions = new Map<number, Version>();
  #current: number;
  #nextId = 1;
  /** The versions that were shown one after the other; `#position` is where undo stands in it. */
  #trail: number[];
  #position = 0;

  /** Begins with a text. */
  constructor(text: string, by: Author = "you") {
    this.#current = this.#add(null, { at: 0, removed: 0, inserted: text, by }).id;
    this.#trail = [this.#current];
  }

  /** The version that is shown. */
  get current(): Version {
    return this.version(this.#current);
  }

  /** All versions, oldest first. */
  get versions(): readonly Version[] {
    return [...this.#versions.values()];
  }

  get canUndo(): boolean {
    return this.#position > 0;
  }

  get canRedo(): boolean {
    return this.#position < this.#trail.length - 1;
  }

  /** The version with this number. */
  version(id: number): Version {
    const found = this.#versions.get(id);
    if (!found) throw new Error(`the text's tree has no version ${id}`);
    return found;
  }

  childrenOf(id: number): Version[] {
    return this.versions.filter(({ parent }) => parent === id);
  }

  /** Text and marks of a version. */
  read(id = this.#current): Written {
    const way: Version[] = [];
    for (let at: number | null = id; at !== null; ) {
      const version: Version = this.version(at);
      way.push(version);
      at = version.parent;
    }
    let text = "";
    let marks: Mark[] = [];
    for (const version of way.reverse()) {
      text = text.slice(0, version.at) + version.inserted + text.slice(version.at + version.removed);
      marks = shifted(marks, version);
    }
    return { text, marks };
  }

  /** Records what was typed; a stretch of typing is one version. */
  type(edit: Pick<Edit, "at" | "removed" | "inserted">): void {
    const last = this.current;
    const goesOn =
      last.by === "you" &&
      last.parent !== null &&
      last.name === undefined &&
      !this.canRedo &&
      edit.removed === 0 &&
      edit.at === last.at + last.inserted.length &&
      last.inserted.length + edit.inserted.length <= MOST_TYPED &&
      !/[.!?\n]\s*$/.test(last.inserted) &&
      this.childrenOf(last.id).length === 0;
    const takesBack =
      last.by === "you" && last.inserted === "" && edit.inserted === "" && edit.at + edit.removed === last.at;
    if (goesOn) last.inserted += edit.inserted;
    else if (takesBack && last.parent !== null && this.childrenOf(last.id).length === 0) {
      last.at = edit.at;
      last.removed += edit.removed;
    } else this.add({ ...edit, by: "you" });
  }

  /** Adds a version to the current one and shows it. */
  add(edit: Edit): Version {
    const version = this.#add(this.#current, edit);
    this.visit(version.id);
    return version;
  }

  /** Adds a version without showing it. */
  addBeside(parent: number, edit: Edit): Version {
    return this.#add(parent, edit);
  }

  /** What was typed last was not typed: the model suggested it. */
  creditModel(text: string): void {
    const last = this.current;
    if (last.by !== "you" || text === "" || !last.inserted.endsWith(text)) return;
    if (last.inserted === text && last.removed === 0 && last.parent !== null) {
      last.by = "model";
      return;
    }
    last.inserted = last.inserted.slice(0, -text.length);
    this.add({ at: last.at + last.inserted.length, removed: 0, inserted: text, by: "model" });
  }

  /** Lets a version that is still being written grow at its end. */
  grow(version: Version, piece: string): void {
    version.inserted += piece;
  }

  /** Forgets the current version if it is an end and changed nothing, such as one that was stopped at once. */
  dropIfEmpty(): void {
    const { id, inserted, removed } = this.current;
    if (inserted !== "" || removed > 0 || this.childrenOf(id).length > 0 || !this.canUndo) return;
    this.undo();
    this.#trail = this.#trail.filter((other) => other !== id);
    this.#versions.delete(id);
  }

  /** Shows a version. */
  visit(id: number): void {
    this.version(id);
    if (id === this.#current) return;
    this.#trail = [...this.#trail.slice(0, this.#position + 1), id];
    this.#position = this.#trail.length - 1;
    this.#current = id;
  }

  /** Back to what was shown before. */
  undo(): void {
    if (this.canUndo) this.#current = this.#trail[--this.#position] ?? this.#current;
  }

  redo(): void {
    if (this.canRedo) this.#current = this.#trail[++this.#position] ?? this.#current;
  }

  /** The tree as it is kept and exported. */
  toJson(): TreeJson {
    return { format: "gpt2-web-text", version: 1, current: this.#current, versions: [...this.versions] };
  }

  /** Reads what {@link toJson} wrote. Throws where it is something else. */
  static fromJson(json: unknown): TextTree {
    const tree = checkJson(json);
    const made = new TextTree("");
    made.#versions = new Map(tree.versions.map((version) => [version.id, { ...version }]));
    made.#nextId = Math.max(...made.#versions.keys()) + 1;
    made.#current = tree.current;
    made.#trail = [tree.current];
    for (const { id } of tree.versions) made.read(id); // every parent is there
    return made;
  }

  #add(parent: number | null, edit: Edit): Version {
    const version: Version = { id: this.#nextId++, parent, ...edit, made: new Date().toISOString() };
    this.#versions.set(version.id, version);
    return version;
  }
}

/** Refuses what is no tree, by name. */
function checkJson(json: unknown): TreeJson {
  const tree = json as Partial<TreeJson> | null;
  if (typeof tree !== "object" || tree === null || tree.format !== "gpt2-web-text" || tree.version !== 1) {
    throw new Error('the file is no exported text: expected { "format": "gpt2-web-text", "version": 1, … }');
  }
  const { versions, current } = tree;
  if (!Array.isArray(versions) || versions.length === 0) throw new Error("versions: expected a list, found none");
  const seen = new Set<number>();
  for (const [i, it] of versions.entries()) {
    const isWhole = [it.id, it.at, it.removed].every((n) => Number.isInteger(n) && n >= 0);
    const isText = typeof it.inserted === "string" && (it.by === "you" || it.by === "model");
    // A parent stands before its children, so there is no circle.
    const hasParent = it.parent === null ? i === 0 : seen.has(it.parent);
    if (!isWhole || !isText || !hasParent || seen.has(it.id))
      throw new Error(`versions[${i}]: expected a version after its parent, found ${JSON.stringify(it)}`);
    seen.add(it.id);
  }
  if (!seen.has(current as number)) throw new Error(`current: expected the id of a version, found ${current}`);
  return tree as TreeJson;
}
