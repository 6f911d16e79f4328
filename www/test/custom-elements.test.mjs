// The manifest of the custom elements tells what the elements have: held against the elements themselves, in a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { launch } from "./browser.mjs";
import { site, WWW } from "./site.mjs";

const source = (name) => readFileSync(path.join(WWW, "src/elements", name), "utf8");
const sorted = (names) => [...new Set(names)].sort();
const matches = (text, pattern) => sorted([...text.matchAll(pattern)].map(([, name]) => name));

/** The attributes that the code reads: by a literal name, or with the options in attributes.ts. */
function attributesIn(file) {
  const shared = source("attributes.ts");
  const [, loading] = /LOAD_ATTRIBUTES = \[(.*?)\]/s.exec(shared);
  const [, numbers] = /NUMBERS = \[(.*?)\]/s.exec(shared);
  const inLists = matches(loading + numbers, /"(\w+)"/g).map((name) => name.replaceAll("_", "-"));
  const literal = /(?:get|has)Attribute\("([\w-]+)"\)/g;
  const own = source(file);
  const [, observed] = /observedAttributes[^=]*= \[(.*?)\]/s.exec(own);
  // Options of writing are read by the elements that write.
  const writes = own.includes("optionsOf(this)");
  const inShared = matches(shared, literal).filter((name) => writes || loading.includes(`"${name}"`));
  return sorted([
    ...inLists.filter((name) => writes || loading.includes(`"${name}"`)),
    ...inShared,
    ...matches(own.replaceAll("field.getAttribute", ""), literal), // that one is the field's
    ...matches(observed, /"([\w-]+)"/g),
  ]);
}

const FILES = {
  "gpt2-generator": "generator.ts",
  "gpt2-autocomplete": "autocomplete.ts",
  "gpt2-surprise": "surprise.ts",
};
const TAGS = Object.keys(FILES);

/** The attributes that an interface of markup.ts has. */
const attributesOf = (name) => {
  const [, body] = new RegExp(`interface ${name}[^{]*\\{(.*?)\\n\\}`, "s").exec(source("markup.ts"));
  return matches(body, /^ {2}"?([\w-]+)"?\?:/gm);
};

test("the manifest in the package names each attribute, event, part, slot, property and member", async (t) => {
  const served = await site();
  t.after(() => served.close());
  const read = (name) => JSON.parse(readFileSync(path.join(served.root, "package", name), "utf8"));
  const { modules } = read(read("package.json").customElements);
  const [{ declarations, path: module }] = modules;
  assert.equal(module, "dist/elements.js");
  assert.deepEqual(declarations.map((it) => it.tagName).sort(), sorted(TAGS));

  const browser = await launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(served.url);
  const seen = await page.evaluate(async (tags) => {
    const exported = await import("/package/dist/elements.js");
    for (const tag of tags) document.body.append(document.createElement(tag));
    // A text that has been read has tokens, which are parts too.
    const surprise = document.querySelector("gpt2-surprise");
    surprise.value = "The old king";
    if (!(await surprise.score())) throw new Error("the text was not read");
    return Object.fromEntries(
      tags.map((tag) => {
        const element = document.querySelector(tag);
        const all = [...element.shadowRoot.querySelectorAll("*")];
        const css = element.shadowRoot.adoptedStyleSheets.flatMap((sheet) => [...sheet.cssRules]).map((r) => r.cssText);
        const members = Object.getOwnPropertyNames(element.constructor.prototype);
        return [
          tag,
          {
            name: Object.keys(exported).find((name) => exported[name] === element.constructor),
            parts: all.flatMap((it) => [...it.part]),
            slots: all.filter((it) => it.localName === "slot").map((it) => it.name),
            properties: [...css.join("\n").matchAll(/var\((--gpt2-[\w-]+)/g)].map(([, name]) => name),
            members: [...members, ...Object.getOwnPropertyNames(element)],
            observed: element.constructor.observedAttributes,
          },
        ];
      }),
    );
  }, TAGS);
  for (const it of declarations) {
    const file = FILES[it.tagName];
    const names = (list = []) => sorted(list.map(({ name }) => name));
    const { name, parts, slots, properties, members, observed } = seen[it.tagName];
    assert.equal(it.name, name);
    assert.deepEqual(names(it.attributes), attributesIn(file), it.tagName);
    assert.deepEqual(
      names(it.attributes),
      sorted([
        ...attributesOf("Gpt2LoadAttributes"),
        ...(it.tagName === "gpt2-surprise" ? [] : attributesOf("Gpt2Attributes")),
        ...attributesOf(`${name.replace("Element", "")}Attributes`),
      ]),
      "markup.ts",
    );
    for (const attribute of observed) assert.ok(names(it.attributes).includes(attribute), attribute);
    assert.deepEqual(names(it.cssParts), sorted(parts));
    assert.deepEqual(names(it.slots), sorted(slots));
    assert.deepEqual(names(it.cssProperties), sorted(properties));
    assert.deepEqual(names(it.events), matches(source(file), /#tell\("(gpt2-\w+)"/g));
    const isOwn = (member) => !/^constructor$|Callback$/.test(member);
    assert.deepEqual(names(it.members), sorted(members.filter(isOwn)));
    for (const thing of [it, ...it.attributes, ...it.events, ...it.members, ...it.cssParts, ...it.cssProperties])
      assert.ok(thing.description, `${it.tagName}: ${thing.name} is explained`);
  }
});
