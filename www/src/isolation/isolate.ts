/** The headers that make a page cross-origin isolated, which threads need, for hosts that cannot send them. */

/** What a page may embed from elsewhere; see docs/threads.md. */
export type EmbedderPolicy = "require-corp" | "credentialless";

/** The response with Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy, where the server sent none. */
export function isolated(response: Response, policy: EmbedderPolicy = "require-corp"): Response {
  // Opaque responses (redirects among them) and errors cannot be copied, and are no documents or workers.
  if (response.status < 200 || response.status > 599) return response;
  const headers = new Headers(response.headers);
  if (!headers.has("Cross-Origin-Opener-Policy")) headers.set("Cross-Origin-Opener-Policy", "same-origin");
  if (!headers.has("Cross-Origin-Embedder-Policy")) headers.set("Cross-Origin-Embedder-Policy", policy);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
