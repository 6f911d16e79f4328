// How @custom-elements-manifest/analyzer makes dist/custom-elements.json, from which editors know the elements.

/** Only what users see: the package has one module of elements, and nothing of it is inherited from a file of theirs. */
const asPublished = {
  name: "as-published",
  packageLinkPhase({ customElementsManifest: manifest }) {
    const declarations = manifest.modules.flatMap((module) => module.declarations).filter((it) => it.customElement);
    for (const it of declarations) {
      it.superclass = { name: "HTMLElement" };
      // What has no docstring was guessed: a `className` of something inside, or the name of a variable.
      const isMeant = ({ privacy, name, description }) =>
        description && privacy !== "private" && !/^#|Callback$|^(observedAttributes|formAssociated)$/.test(name);
      it.members = it.members.filter(isMeant);
      it.events = it.events.filter(isMeant);
    }
    const path = "dist/elements.js";
    const exports = declarations.flatMap(({ name, tagName }) => [
      { kind: "js", name, declaration: { name, module: path } },
      { kind: "custom-element-definition", name: tagName, declaration: { name, module: path } },
    ]);
    manifest.modules = [{ kind: "javascript-module", path, declarations, exports }];
  },
};

export default {
  globs: ["src/elements/generator.ts", "src/elements/autocomplete.ts", "src/elements/surprise.ts"],
  outdir: "dist",
  packagejson: false,
  plugins: [asPublished],
};
