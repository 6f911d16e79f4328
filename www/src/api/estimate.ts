/** What loading a model would take. Runs in the page's thread. */

import { contact, orOfOriginal } from "./contact.js";
import { checkEnvironment } from "./environment.js";
import { makeError } from "./errors.js";
import type { WireModel } from "./messages.js";
import type { CreateGeneratorOptions, Estimate, ModelSource } from "./types.js";

/**
 * What loading a model would take, before anything large is fetched. A model that cannot be loaded is no error here:
 * `problems` says why.
 *
 * @throws {@link InvalidOptionError}, {@link UnsupportedEnvironmentError}, or the platform's `AbortError`.
 */
export async function estimate(model: ModelSource = "demo", options: CreateGeneratorOptions = {}): Promise<Estimate> {
  await checkEnvironment();
  const { client, body, untilAborted } = contact("estimate", model, options);
  try {
    const ask = (model: WireModel) => client.ask("estimate", { ...body, model }).answer;
    const { answer, warning } = await untilAborted(orOfOriginal(body.model, options, ask));
    if (warning !== null) answer.problems.push(warning);
    return answer;
  } finally {
    client.close(makeError("disposed", "the estimate is made"));
  }
}
