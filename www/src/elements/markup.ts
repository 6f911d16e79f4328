/** What the elements take in markup: the attributes by name, for JSX and for templates that are checked. */

import type { Chunk, Device, DType, GenerateOptions, GenerationResult, GeneratorInfo, Score } from "../api/index.js";
import type { Piece } from "./pieces.js";
import type { ColourMode } from "./token-text.js";

/** Numbers may be written as text, as in HTML. */
type Numeric = number | string;

/** The attributes of loading, which all elements have. An attribute without a value is `true`, or the empty text. */
export interface Gpt2LoadAttributes {
  model?: string | undefined;
  device?: Device | undefined;
  dtype?: DType | undefined;
  revision?: string | undefined;
  preload?: boolean | "" | undefined;
}

/** The attributes of the elements that write. */
export interface Gpt2Attributes extends Gpt2LoadAttributes {
  "max-new-tokens"?: Numeric | undefined;
  temperature?: Numeric | undefined;
  "top-k"?: Numeric | undefined;
  "top-p"?: Numeric | undefined;
  "min-p"?: Numeric | undefined;
  "repetition-penalty"?: Numeric | undefined;
  "presence-penalty"?: Numeric | undefined;
  "frequency-penalty"?: Numeric | undefined;
  "no-repeat-ngram-size"?: Numeric | undefined;
  seed?: Numeric | undefined;
  stop?: string | undefined;
  greedy?: boolean | "" | undefined;
}

/** The attributes of `<gpt2-generator>`. */
export interface Gpt2GeneratorAttributes extends Gpt2Attributes {
  prompt?: string | undefined;
  placeholder?: string | undefined;
  name?: string | undefined;
  alternatives?: Numeric | undefined;
  disabled?: boolean | "" | undefined;
}

/** The attributes of `<gpt2-autocomplete>`. `delay` is in milliseconds. */
export interface Gpt2AutocompleteAttributes extends Gpt2Attributes {
  for?: string | undefined;
  delay?: Numeric | undefined;
  disabled?: boolean | "" | undefined;
  quiet?: boolean | "" | undefined;
}

/** The attributes of `<gpt2-surprise>`. */
export interface Gpt2SurpriseAttributes extends Gpt2LoadAttributes {
  mode?: ColourMode | undefined;
  numbers?: boolean | "" | undefined;
  quiet?: boolean | "" | undefined;
}

/** What a framework sets as a property, not as an attribute. */
export interface Gpt2Properties {
  options?: GenerateOptions | undefined;
}

/** The events of the elements as React 19 and Preact listen to them. */
export interface Gpt2EventHandlers {
  "ongpt2-ready"?: ((event: CustomEvent<{ info: GeneratorInfo }>) => void) | undefined;
  "ongpt2-chunk"?: ((event: CustomEvent<Chunk>) => void) | undefined;
  "ongpt2-done"?: ((event: CustomEvent<GenerationResult>) => void) | undefined;
  "ongpt2-accept"?: ((event: CustomEvent<{ text: string }>) => void) | undefined;
  "ongpt2-scored"?: ((event: CustomEvent<{ score: Score; pieces: Piece[] }>) => void) | undefined;
  "ongpt2-select"?: ((event: CustomEvent<{ stretch: readonly [number, number] | null }>) => void) | undefined;
  "ongpt2-error"?: ((event: CustomEvent<{ error: unknown }>) => void) | undefined;
}
