// The elements in the JSX of React 19: what they take is checked, and what they do not take is refused.
import "../../src/elements/react.js";
import { createRef } from "react";
import type { Gpt2GeneratorElement } from "../../src/elements/react.js";

const generator = createRef<Gpt2GeneratorElement>();

export const right = (
  <>
    <gpt2-generator
      ref={generator}
      className="wide"
      model="demo"
      device="wasm"
      prompt="Once upon a time"
      max-new-tokens={40}
      top-k="40"
      greedy
      options={{ logprobs: true }}
      ongpt2-ready={({ detail }) => detail.info.threads.toFixed()}
      ongpt2-done={({ detail }) => detail.text.trim()}
    />
    <textarea id="letter" />
    <gpt2-autocomplete for="letter" delay={100} ongpt2-accept={({ detail }) => detail.text.trim()} />
    <gpt2-surprise mode="bits" numbers ongpt2-select={({ detail }) => detail.stretch?.[0].toFixed()}>
      Once upon a time
    </gpt2-surprise>
  </>
);

export const wrong = [
  // @ts-expect-error: a device that there is not
  <gpt2-generator key={1} device="gpu" />,
  // @ts-expect-error: an option in the library's spelling
  <gpt2-generator key={2} options={{ maxNewTokens: 4 }} />,
  // @ts-expect-error: `for` is the id of a textarea
  <gpt2-autocomplete key={3} for={12} />,
  // @ts-expect-error: a colour that there is not
  <gpt2-surprise key={5} mode="heat" />,
  // @ts-expect-error: the generator completes no textarea
  <gpt2-generator key={4} for="letter" />,
];

const found: Gpt2GeneratorElement | null = document.querySelector("gpt2-generator");
const made: Promise<unknown> = document.createElement("gpt2-autocomplete").load();

export { found, made };
