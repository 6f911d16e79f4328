/** Messages with roles as the Prompt API has them, and how they become a text, which is all that GPT-2 knows. */

/** Who says something. */
export type LanguageModelMessageRole = "system" | "user" | "assistant";

/** A part of a message. Here only text can be had. */
export interface LanguageModelMessageContent {
  type: "text" | "image" | "audio";
  value: unknown;
}

/** A message. `prefix`: the last message of a prompt is the beginning of the model's answer. */
export interface LanguageModelMessage {
  role: LanguageModelMessageRole;
  content: string | LanguageModelMessageContent[];
  prefix?: boolean;
}

/** What is asked: a user's words, or messages. */
export type LanguageModelPrompt = string | LanguageModelMessage[];

/** A message as the specification makes it canonical: its texts joined. */
export interface PlainMessage {
  role: LanguageModelMessageRole;
  text: string;
  /** Whether the model's answer goes on from here. */
  prefix: boolean;
}

/** How roles are written. GPT-2 was trained on plain text, so this is a script that it is to go on with. */
export interface RoleTemplate {
  /** A whole message as it stands in the text. */
  message(role: LanguageModelMessageRole, text: string): string;
  /** What stands before the model's answer; no white space at the end, since GPT-2's tokens begin with it. */
  answer: string;
  /** What stands after the model's answer. */
  answer_end: string;
  /** What the model writes when it goes on with somebody else's words, and where its answer ends. */
  stop: string[];
}

const NAMES = { user: "User", assistant: "Assistant" };

/**
 * ```text
 * The system message, if there is one.
 *
 * User: what the user says
 * Assistant: what the model answers
 * User: …
 * Assistant:
 * ```
 */
export const DEFAULT_TEMPLATE: RoleTemplate = {
  message: (role, text) => (role === "system" ? `${text}\n\n` : `${NAMES[role]}: ${text}\n`),
  answer: "Assistant:",
  answer_end: "\n",
  stop: ["\nUser:", "\nAssistant:"],
};

/**
 * Validates and canonicalises a prompt as the specification says.
 *
 * @param isFirst whether the text begins with it; only then a system message may come first
 * @throws `SyntaxError` and `NotSupportedError` DOMExceptions, and `TypeError`
 */
export function canonical(input: unknown, isFirst: boolean): PlainMessage[] {
  if (!Array.isArray(input)) return [{ role: "user", text: String(input), prefix: false }];
  if (input.length === 0) return [{ role: "user", text: "", prefix: false }];
  return input.map((message: Partial<LanguageModelMessage> | null, i) => {
    const { role, content, prefix = false } = message ?? {};
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw new TypeError(`message ${i}: expected the role "system", "user" or "assistant", found ${String(role)}`);
    }
    if (content === undefined) throw new TypeError(`message ${i}: expected content, found none`);
    if (prefix && (role !== "assistant" || i !== input.length - 1)) {
      const found = `message ${i} of ${input.length}, role "${role}"`;
      throw new DOMException(
        `prefix: expected in a last message of the role "assistant", found in ${found}`,
        "SyntaxError",
      );
    }
    if (role === "system" && !(isFirst && i === 0)) {
      throw new TypeError(`message ${i}: a system message is expected first, and in initialPrompts`);
    }
    return { role, text: textOf(content, i), prefix: Boolean(prefix) };
  });
}

function textOf(content: string | LanguageModelMessageContent[], i: number): string {
  if (!Array.isArray(content)) return String(content);
  const parts = content.map(({ type, value }) => {
    if (type !== "text") throw notSupported(`message ${i}: expected content of the type "text", found "${type}"`);
    if (typeof value !== "string")
      throw new TypeError(`message ${i}: expected a string as text, found ${typeof value}`);
    return value;
  });
  return parts.join("");
}

/** What the specification throws for something that a model cannot do. */
export function notSupported(message: string): DOMException {
  return new DOMException(message, "NotSupportedError");
}

/** The text of messages that the model does not answer. */
export function writeMessages(template: RoleTemplate, messages: readonly PlainMessage[]): string {
  return messages.map(({ role, text }) => template.message(role, text)).join("");
}

/** The text of messages, up to where the model's answer begins. */
export function writePrompt(template: RoleTemplate, messages: readonly PlainMessage[]): string {
  const last = messages.at(-1);
  if (!last?.prefix) return writeMessages(template, messages) + template.answer;
  const begun = last.text === "" ? template.answer : `${template.answer} ${last.text}`;
  return writeMessages(template, messages.slice(0, -1)) + begun;
}
