/** Trusted Types: pages may demand that scripts' addresses and markup come from a policy, here one named `gpt2-web`. */

interface Policy {
  createScriptURL(url: string): string;
  createHTML(html: string): string;
}

/** The types of the platform have no Trusted Types yet; what a policy makes is used as a string. */
const scope = globalThis as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } };

const same = (text: string) => text;
const none: Policy = { createScriptURL: same, createHTML: same };

let policy: Policy | undefined;

/** The policy of this package. It is not handed out, so nobody else can use it. */
function ours(): Policy {
  if (policy) return policy;
  try {
    policy = scope.trustedTypes?.createPolicy("gpt2-web", none) ?? none;
  } catch {
    policy = none; // the page allows other policies only; if it demands one, it refuses what is made without
  }
  return policy;
}

/** The address of one of the package's own scripts. */
export function trustedScript(url: string): string {
  return ours().createScriptURL(url);
}

/** Markup that is written in this package's sources. */
export function trustedMarkup(html: string): string {
  return ours().createHTML(html);
}
