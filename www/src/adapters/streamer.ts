/** What a pipeline tells while it writes, in the shape of transformers.js. */

import { invalidOption } from "../api/errors.js";

/** Takes the tokens of a generation. Extend it to do something of your own with them. */
export class BaseStreamer {
  /** Takes the prompt's tokens first, then each new token: [1, T new tokens]. */
  put(_value: bigint[][]): void {
    throw new Error("a streamer needs a method `put`");
  }
  /** Called when the text is whole. */
  end(): void {
    throw new Error("a streamer needs a method `end`");
  }
}

/** Options of {@link TextStreamer}. */
export interface TextStreamerOptions {
  /** Whether to leave out the prompt. Default `false`. */
  skip_prompt?: boolean;
  /** Called with each piece of text. Default `console.log`. */
  callback_function?: ((text: string) => void) | null;
  /** Called with each list of new tokens. */
  token_callback_function?: ((tokens: bigint[]) => void) | null;
  /** Only `true`: special tokens have no text here. */
  skip_special_tokens?: boolean;
}

/** Passes a text on while it is written. Each piece is whole characters; together they are the whole text. */
export class TextStreamer extends BaseStreamer {
  readonly tokenizer: unknown;
  readonly skip_prompt: boolean;
  /** Called with each piece of text. */
  callback_function: (text: string) => void;
  /** Called with each list of new tokens. */
  token_callback_function: ((tokens: bigint[]) => void) | null;

  constructor(tokenizer: unknown, options: TextStreamerOptions = {}) {
    super();
    const { skip_prompt, callback_function, token_callback_function, skip_special_tokens, ...rest } = options;
    if (skip_special_tokens === false) throw invalidOption("skip_special_tokens", "true", false);
    for (const name of Object.keys(rest)) throw invalidOption(name, "an option of TextStreamer", "an unknown option");
    this.tokenizer = tokenizer;
    this.skip_prompt = skip_prompt ?? false;
    this.callback_function = callback_function ?? ((text) => console.log(text));
    this.token_callback_function = token_callback_function ?? null;
  }

  /** Takes new tokens; the prompt's only where that is not skipped. */
  override put([tokens]: bigint[][]): void {
    if (tokens) this.token_callback_function?.(tokens);
  }

  override end(): void {
    this.on_finalized_text("", true);
  }

  /** Takes text that will not change any more; at the end it is called once more, with `stream_end`. */
  on_finalized_text(text: string, _stream_end: boolean): void {
    if (text !== "") this.callback_function(text);
  }
}

/** Ends a text from outside: what is written so far is kept. */
export class InterruptableStoppingCriteria {
  interrupted = false;

  /** Ends what is being written, and keeps it. */
  interrupt(): void {
    this.interrupted = true;
  }

  /** Lets the next text be written. */
  reset(): void {
    this.interrupted = false;
  }
}
