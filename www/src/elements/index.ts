/**
 * Custom elements: `import "gpt2-web/elements"` registers `<gpt2-generator>` and `<gpt2-autocomplete>`.
 *
 * Elements that ask for the same model share one generator, which is disposed of with the last of them.
 */
import type { Chunk, GenerationResult, GeneratorInfo } from "../api/index.js";
import { Gpt2AutocompleteElement } from "./autocomplete.js";
import { Gpt2GeneratorElement } from "./generator.js";

export { type AutocompleteState, Gpt2AutocompleteElement } from "./autocomplete.js";
export { type GeneratorState, Gpt2GeneratorElement } from "./generator.js";
export type { Gpt2Attributes, Gpt2AutocompleteAttributes, Gpt2GeneratorAttributes } from "./markup.js";

declare global {
  interface HTMLElementTagNameMap {
    "gpt2-generator": Gpt2GeneratorElement;
    "gpt2-autocomplete": Gpt2AutocompleteElement;
  }
  interface HTMLElementEventMap {
    "gpt2-ready": CustomEvent<{ info: GeneratorInfo }>;
    "gpt2-chunk": CustomEvent<Chunk>;
    "gpt2-done": CustomEvent<GenerationResult>;
    "gpt2-accept": CustomEvent<{ text: string }>;
    "gpt2-error": CustomEvent<{ error: unknown }>;
  }
}

const ELEMENTS = { "gpt2-generator": Gpt2GeneratorElement, "gpt2-autocomplete": Gpt2AutocompleteElement };

// A server has no elements. A page may load this module twice, in two versions too: the first one counts, since a
// second `define` would throw.
const registry: CustomElementRegistry | undefined = globalThis.customElements;
for (const [name, element] of Object.entries(ELEMENTS)) if (!registry?.get(name)) registry?.define(name, element);
