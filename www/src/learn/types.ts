/** The types of learning. Names follow PEFT (`LoraConfig`) and transformers (`TrainingArguments`). */

/** Options of {@link finetune}. */
export interface FinetuneOptions {
  /** What the adapter is called in the generator. Default `"learned"`, with a number behind it if that is taken. */
  name?: string;
  /**
   * What learns: `"lora"`, the default, is an adapter beside the model's weights; `"full"` are all of the model's
   * weights, for small models: it takes six times their size in 32 bits, and makes a model, no adapter.
   */
  method?: "lora" | "full";
  /** Rank of the adapter's matrices, 1 to 256: how much it can learn, and how large it is. Default 8. */
  r?: number;
  /** The adapter's factor counts as this over the rank. Default 16. */
  lora_alpha?: number;
  /** Whether the factor counts as `lora_alpha` over the root of the rank. Default `false`. */
  use_rslora?: boolean;
  /** Ends of the names of the modules that get an adapter: `c_attn`, `c_proj`, `c_fc`. Default: all three. */
  target_modules?: readonly string[];
  /**
   * The highest learning rate. It rises for `warmup_steps`, and falls along a cosine to a tenth. Default 0.001, and
   * 0.0005 for `"full"`.
   */
  learning_rate?: number;
  /** How many steps to make. Default: as many as `epochs` take. */
  steps?: number;
  /** How often each token is learnt from. Default 3. */
  epochs?: number;
  /** Rows of text that are learnt from at once. Default 1, which makes most of a few pages. */
  batch_size?: number;
  /** So many times as many rows make a step, without taking more memory. Default 1. */
  gradient_accumulation_steps?: number;
  /** Tokens in a row. Default 256, and at most the model's window. */
  max_length?: number;
  /** Steps in which the rate rises. Default: a twentieth of all. */
  warmup_steps?: number;
  /**
   * The share of each text's end that is kept back, below 1: what is learnt is measured by it, and learning ends when
   * four measurements in a row were worse than the best one. 0 keeps nothing back. Default 0.1.
   */
  eval_fraction?: number;
  /** Decides where the adapter begins and the order of the rows: the same seed gives the same adapter. Default 0. */
  seed?: number;
  /** Where to learn. Learning runs on the CPU: `"auto"`, the default, and `"wasm"` are the same. */
  device?: "auto" | "wasm";
  /**
   * Whether to keep what is needed to go on after a reload in IndexedDB, from step to step: the text's tokens, the
   * adapter and the optimizer's state. It is deleted when learning ends. Default `true`.
   */
  save_state?: boolean;
  /** Cancels: nothing is kept, and the run rejects with the signal's reason, by default `AbortError`. */
  signal?: AbortSignal;
}

/** What a step showed. */
export interface FinetuneEvent {
  /** Steps done. */
  step: number;
  /** Steps in all, if it does not end earlier. */
  steps: number;
  /** Of the step's rows before it learnt from them: mean negative log-probability, nats per token. */
  loss: number;
  /** Of what is kept back, after this step; `null` where it was not measured, as after most steps. */
  eval_loss: number | null;
  /** The rate of this step. */
  learning_rate: number;
  /** Norm of all gradients together, before it was clipped to 1. */
  grad_norm: number;
  /** Whether what was learnt until this step is the best so far, and so what is kept. */
  is_best: boolean;
  /** Tokens that are learnt from per second. */
  tokens_per_second: number;
  /** Milliseconds left, if all steps are made. */
  eta_ms: number;
}

/** What is known when learning begins. */
export interface FinetuneStart {
  /** Steps in all, if it does not end earlier. */
  steps: number;
  /** Of what is kept back, before anything is learnt: nats per token; `null` where nothing is kept back. */
  eval_loss: number | null;
  /** What learning takes, at its peak. */
  memory_bytes: number;
}

/** What learning would take, known before it begins. */
export interface FinetuneEstimate {
  /** What learning takes at its peak, beside the generator. */
  memory_bytes: number;
  /** Steps in all, if it does not end earlier. */
  steps: number;
  /** Tokens of the text. */
  tokens: number;
  /** What would make it fail or be of little use; empty if nothing is known. */
  problems: string[];
}

/** A fine-tuning that was cut off, by a reload for example, and can go on. */
export interface SavedFinetune {
  /** For {@link resumeFinetune}. */
  id: string;
  /** The model, as it was named. */
  model: string;
  /** Branch, tag or commit. */
  revision: string;
  /** The format of its weights. */
  dtype: string;
  /** What learns. */
  method: "lora" | "full";
  /** What the adapter is to be called; `null` for the default. */
  name: string | null;
  /** Steps done. */
  step: number;
  /** Steps in all. */
  steps: number;
  /** When the last step was kept, as an ISO 8601 date and time. */
  saved_at: string;
}
