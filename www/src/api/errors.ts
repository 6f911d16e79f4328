/** Typed errors, and how they cross to another thread: `postMessage` does not keep their class. */

/** Base of every error of this package. `code` is stable. */
export class Gpt2Error extends Error {
  readonly code: string;

  constructor(code: string, message: string, details: Record<string, unknown> = {}) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    Object.assign(this, details);
  }
}

/** A checkpoint that is not a GPT-2 or needs what this package cannot compute; names the `file` and its `field`. */
export class UnsupportedModelError extends Gpt2Error {
  declare readonly file: string;
  declare readonly field: string;
  declare readonly expected: string;
  declare readonly found: string;
}
/** A malformed or incomplete file; names `file`, perhaps `tensor`, `expected` and `found`. */
export class CheckpointError extends Gpt2Error {
  declare readonly file: string;
  declare readonly tensor?: string;
  declare readonly expected: string;
  declare readonly found: string;
}
/** A file that did not arrive as the server announced it. */
export class IntegrityError extends Gpt2Error {}
/** A file that could not be fetched; names the `url` and, where the server answered, the `status`. */
export class NetworkError extends Gpt2Error {
  declare readonly url: string;
  declare readonly status?: number;
}
/**
 * Kept for code that catches it, but never thrown: a model that the storage has no room for loads with a warning in
 * `info.warnings`.
 */
export class QuotaError extends Gpt2Error {}
/** WebGPU was asked for by name and cannot be had. */
export class WebGPUNotAvailableError extends Gpt2Error {}
/** The GPU was lost while in use. */
export class DeviceLostError extends Gpt2Error {}
/** The text does not fit the context window. */
export class ContextWindowError extends Gpt2Error {}
/** A place that the package cannot run in: no browser, or too old a one; names what is `missing`. */
export class UnsupportedEnvironmentError extends Gpt2Error {
  declare readonly missing: readonly string[];
}
/** An unknown option, or a value out of range; names the `option`. */
export class InvalidOptionError extends Gpt2Error {
  declare readonly option: string;
  declare readonly expected: string;
  declare readonly found: string;
}

const CLASSES: Record<string, typeof Gpt2Error> = {
  unsupported_environment: UnsupportedEnvironmentError,
  unsupported_model: UnsupportedModelError,
  checkpoint: CheckpointError,
  integrity: IntegrityError,
  network: NetworkError,
  quota: QuotaError,
  webgpu_not_available: WebGPUNotAvailableError,
  device_lost: DeviceLostError,
  context_window: ContextWindowError,
  invalid_option: InvalidOptionError,
};

/** An error of the class that belongs to `code`. */
export function makeError(code: string, message: string, details: Record<string, unknown> = {}): Gpt2Error {
  return new (CLASSES[code] ?? Gpt2Error)(code, message, details);
}

/** An option that is unknown or out of range. */
export function invalidOption(option: string, expected: string, found: unknown): Gpt2Error {
  const shown = typeof found === "string" ? JSON.stringify(found) : String(found);
  return makeError("invalid_option", `option \`${option}\`: expected ${expected}, found ${shown}`, {
    option,
    expected,
    found: shown,
  });
}

/** The platform's `AbortError`. */
export function abortError(): DOMException {
  return new DOMException("The operation was aborted.", "AbortError");
}

/** Why a signal aborted: what its owner gave as the reason, such as a `TimeoutError`, else an `AbortError`. */
export function reasonOf(signal: AbortSignal): unknown {
  return signal.reason ?? abortError();
}

/**
 * Whether an error is the platform's `AbortError`: somebody cancelled, and there is nothing to report. An error of
 * another frame is an instance of that frame's class, so the name decides.
 */
export function isAbort(error: unknown): boolean {
  return typeof error === "object" && error !== null && (error as { name?: unknown }).name === "AbortError";
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An error as it crosses to another thread. */
export interface WireError {
  code: string;
  message: string;
  details: Record<string, unknown>;
}

/** Anything that was thrown, in a form that can be posted. Errors from Rust have `code` and details as properties. */
export function toWire(error: unknown): WireError {
  if (isAbort(error)) return { code: "abort", message: "", details: {} };
  if (error instanceof Error) {
    const { code, ...details } = { ...error } as Record<string, unknown>;
    if (typeof code === "string") return { code, message: error.message, details };
    return { code: "internal", message: `${error.name}: ${error.message}`, details: {} };
  }
  return { code: "internal", message: String(error), details: {} };
}

/** The error to throw for one that was posted. */
export function fromWire({ code, message, details }: WireError): Error {
  return code === "abort" ? abortError() : makeError(code, message, details);
}
