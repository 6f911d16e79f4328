/** The elements, and their types for the JSX of React 19: `import "gpt2-web/react"`. */

import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { Gpt2AutocompleteElement } from "./autocomplete.js";
import type { Gpt2GeneratorElement } from "./generator.js";
import type {
  Gpt2AutocompleteAttributes,
  Gpt2EventHandlers,
  Gpt2GeneratorAttributes,
  Gpt2Properties,
  Gpt2SurpriseAttributes,
} from "./markup.js";
import type { Gpt2SurpriseElement } from "./surprise.js";

export * from "./index.js";

type Props<T, A> = Omit<DetailedHTMLProps<HTMLAttributes<T>, T>, keyof A> & A & Gpt2Properties & Gpt2EventHandlers;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "gpt2-generator": Props<Gpt2GeneratorElement, Gpt2GeneratorAttributes>;
      "gpt2-autocomplete": Props<Gpt2AutocompleteElement, Gpt2AutocompleteAttributes>;
      "gpt2-surprise": Props<Gpt2SurpriseElement, Gpt2SurpriseAttributes>;
    }
  }
}
