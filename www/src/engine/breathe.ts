const { port1, port2 } = new MessageChannel();

/** Lets waiting messages in. A timer would do so too, but browsers let it wait 4 ms, as long as a token takes. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });
}
