/** The types of LoRA adapters: small files that change how a model writes, beside its own weights. */

/**
 * Where a LoRA adapter is, in PEFT's layout (`adapter_config.json` and `adapter_model.safetensors`): a Hugging Face id
 * or the address of its page, the URL of a folder, or the files themselves.
 */
export type AdapterSource = string | URL | { files: Iterable<File> | Record<string, Blob> };

/**
 * Which loaded LoRA adapters a text is computed with: the name of one; the names of several, which are added up; names
 * with weights, which count in the place of those they were loaded with; or `null` for none.
 */
export type AdapterChoice = string | readonly string[] | Readonly<Record<string, number>> | null;

/** Options of {@link Generator.loadAdapter}. */
export interface LoadAdapterOptions {
  /** What to call it. By default the last part of its address, or `"adapter"`, with a number if that is taken. */
  name?: string;
  /** How much of it is added to the model; 0.5 is half. Default 1. */
  weight?: number;
  /** Branch, tag or commit of an adapter on the hub. Default `"main"`. */
  revision?: string;
  /** Cancels: the promise rejects with the signal's reason, by default `AbortError`. */
  signal?: AbortSignal;
}

/** A loaded LoRA adapter. */
export interface LoraAdapterInfo {
  /** What it is called. */
  name: string;
  /** Where it is from. */
  source: string;
  /** The weight that it was loaded with. */
  weight: number;
  /** The weight that it has in texts that choose no adapter themselves; 0 if it is off. */
  active_weight: number;
  /** How many numbers it has. */
  parameters: number;
  /** The largest rank of its matrices. */
  rank: number;
}
