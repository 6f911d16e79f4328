import { createGenerator } from "gpt2-web";

const [write, stop, progress, text] = ["write", "stop", "progress", "text"].map((id) => document.getElementById(id));
let generator;

write.addEventListener("click", async () => {
  write.disabled = true;
  progress.hidden = false;
  generator ??= await createGenerator("demo", {
    progress_callback: (event) => event.status === "progress_total" && (progress.value = event.progress),
  });
  progress.hidden = true;
  const stream = generator.generate(text.textContent, { max_new_tokens: 100, temperature: 0.8 });
  stop.disabled = false;
  stop.onclick = () => stream.interrupt(); // ends softly and keeps the text
  for await (const chunk of stream) text.append(chunk.text);
  stop.disabled = true;
  write.disabled = false;
});
