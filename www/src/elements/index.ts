/**
 * Custom elements: `import "gpt2-web/elements"` registers `<gpt2-generator>`,
 * `<gpt2-autocomplete>` and `<gpt2-surprise>`.
 *
 * Elements that ask for the same model share one generator, which is disposed of with the last of them.
 */
import type { Chunk, GenerationResult, GeneratorInfo, Score } from "../api/index.js";
import { Gpt2AutocompleteElement } from "./autocomplete.js";
import { Gpt2GeneratorElement } from "./generator.js";
import type { Piece } from "./pieces.js";
import { Gpt2SurpriseElement } from "./surprise.js";

export { type AutocompleteState, Gpt2AutocompleteElement } from "./autocomplete.js";
export { type GeneratorState, Gpt2GeneratorElement } from "./generator.js";
export type {
  Gpt2Attributes,
  Gpt2AutocompleteAttributes,
  Gpt2GeneratorAttributes,
  Gpt2SurpriseAttributes,
} from "./markup.js";
export type { AutocompleteMessages, GeneratorMessages, SurpriseMessages } from "./messages.js";
export type { Piece } from "./pieces.js";
export { Gpt2SurpriseElement, type SurpriseState } from "./surprise.js";
export type { ColourMode } from "./token-text.js";

declare global {
  interface HTMLElementTagNameMap {
    "gpt2-generator": Gpt2GeneratorElement;
    "gpt2-autocomplete": Gpt2AutocompleteElement;
    "gpt2-surprise": Gpt2SurpriseElement;
  }
  interface HTMLElementEventMap {
    "gpt2-ready": CustomEvent<{ info: GeneratorInfo }>;
    "gpt2-chunk": CustomEvent<Chunk>;
    "gpt2-done": CustomEvent<GenerationResult>;
    "gpt2-accept": CustomEvent<{ text: string }>;
    "gpt2-scored": CustomEvent<{ score: Score; pieces: Piece[] }>;
    "gpt2-select": CustomEvent<{ stretch: readonly [number, number] | null }>;
    "gpt2-error": CustomEvent<{ error: unknown }>;
  }
}

const ELEMENTS = {
  "gpt2-generator": Gpt2GeneratorElement,
  "gpt2-autocomplete": Gpt2AutocompleteElement,
  "gpt2-surprise": Gpt2SurpriseElement,
};

// A server has no elements. A page may load this module twice, in two versions too: the first one counts, since a
// second `define` would throw.
const registry: CustomElementRegistry | undefined = globalThis.customElements;
for (const [name, element] of Object.entries(ELEMENTS)) if (!registry?.get(name)) registry?.define(name, element);
