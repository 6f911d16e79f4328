/**
 * GPT-2 in a web page, on the visitor's own machine.
 *
 * ```ts
 * const generator = await createGenerator("demo");
 * for await (const { text } of generator.generate("Once upon a time")) page.append(text);
 * ```
 */

export { deleteModel, isCached, listModels, storageEstimate } from "../files/cache.js";
export {
  CheckpointError,
  ContextWindowError,
  DeviceLostError,
  Gpt2Error,
  IntegrityError,
  InvalidOptionError,
  NetworkError,
  QuotaError,
  UnsupportedEnvironmentError,
  UnsupportedModelError,
  WebGPUNotAvailableError,
} from "./errors.js";
export { estimate } from "./estimate.js";
export { createGenerator, Generator, type GeneratorTokenizer } from "./generator.js";
export type * from "./lora-types.js";
export { Session } from "./session.js";
export { GenerationStream } from "./stream.js";
export type * from "./types.js";
export { VERSION } from "./version.js";
