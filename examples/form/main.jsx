import "gpt2-web/elements";
import { useState } from "react";
import { createRoot } from "react-dom/client";

/** A form in which the model offers how the text may go on: Tab accepts. */
function Letter() {
  const [sent, setSent] = useState("");
  const send = (event) => {
    event.preventDefault();
    setSent(new FormData(event.currentTarget).get("letter"));
  };
  return (
    <form onSubmit={send}>
      <p><label htmlFor="letter">Your letter</label></p>
      <p><textarea id="letter" name="letter" rows={6} cols={60} /></p>
      <gpt2-autocomplete for="letter" model="demo" />
      <p><button>Send</button> <output>{sent}</output></p>
    </form>
  );
}

createRoot(document.getElementById("root")).render(<Letter />);
