/** What a person is told when something fails. Used by the page and by the elements. */

/** An error in plain words. */
export interface Explanation {
  /** One short sentence: what went wrong. */
  title: string;
  /** The precise message: names the thing and the values. */
  detail: string;
  /** What to do about it. */
  next: string;
}

type Advice = Pick<Explanation, "title" | "next">;

/** By the `code` of a `Gpt2Error`. */
const ADVICE: Readonly<Record<string, Advice>> = {
  unsupported_environment: {
    title: "The model cannot run in this browser",
    next: "Use a browser of 2023 or later. Where the message speaks of a policy, the page has to allow workers.",
  },
  unsupported_model: {
    title: "This model is not one that can run here",
    next: "Choose a GPT-2 checkpoint: one whose config.json says model_type “gpt2”, for example openai-community/gpt2.",
  },
  checkpoint: {
    title: "The model’s files are incomplete or damaged",
    next:
      "A model needs config.json, its .safetensors file or files (with their index), and tokenizer.json or " +
      "vocab.json with merges.txt. Choose all of them together, or another model.",
  },
  integrity: {
    title: "The download is not what the server announced",
    next:
      "Retry to download it again. If it stays so, the copy on the server, or something between it and you, changed " +
      "the file.",
  },
  network: {
    title: "The model could not be downloaded",
    next: "Check the connection and the spelling of the model, then retry. Files that arrived whole are kept.",
  },
  quota: {
    title: "The browser has no room left to keep the model",
    next: "Free some storage for this site, or go on: the model then has to be downloaded again the next time.",
  },
  webgpu_not_available: {
    title: "This browser gives no GPU to web pages",
    next: "Choose “Automatic” or the CPU instead, or use a browser with WebGPU turned on.",
  },
  device_lost: {
    title: "The GPU stopped answering",
    next:
      "Retry to load the model again. If it keeps happening, close other pages that use the GPU, or choose " +
      "the CPU.",
  },
  out_of_memory: {
    title: "This model is too large for this browser",
    next: "Choose a smaller model, or close other pages and retry.",
  },
  context_window: {
    title: "The text is longer than the model can read",
    next: "Shorten the beginning, or let the model slide on when its window is full.",
  },
  invalid_option: {
    title: "One of the settings is not valid",
    next: "Change the setting that the message names, then retry.",
  },
};

const UNEXPECTED: Advice = {
  title: "Something went wrong inside the program",
  next: "Retry. If it happens again, please report it with the message above.",
};

/** The error's code. Its class cannot be compared, since a page may have loaded the package twice. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** The title, precise message and next step for anything that was thrown. */
export function explain(error: unknown): Explanation {
  const detail = error instanceof Error && error.message !== "" ? error.message : String(error);
  return { ...(ADVICE[codeOf(error)] ?? UNEXPECTED), detail };
}

/** Whether the GPU was lost: what was loaded on it is gone. */
export function isDeviceLost(error: unknown): boolean {
  return codeOf(error) === "device_lost";
}
