/**
 * The page: choose a model, write a prompt, and read the text that the model writes.
 *
 * Reading order: `model.ts` (choose and load), `writing.ts` (prompt to text), `sampling.ts` (options),
 * then `storage.ts`, `settings.ts`, `files.ts`, `alert.ts`, `offline.ts`.
 */
import { isAbort } from "../api/errors.js";
import { showError } from "./alert.js";
import { note } from "./dom.js";
import { loadFirst, startModel } from "./model.js";
import { startOffline } from "./offline.js";
import { startSampling } from "./sampling.js";
import { startSettings } from "./settings.js";
import { showStorage, startStorage } from "./storage.js";
import { attach, detach, startWriting } from "./writing.js";

// Errors that nothing caught are shown too: few people look into the console.
addEventListener("unhandledrejection", (event) => {
  if (!isAbort(event.reason)) showError(event.reason);
});
addEventListener("error", (event) => showError(event.error ?? event.message));

const { linkedModel, refused } = startSettings();
startSampling();
startWriting();
startStorage();
startModel({
  loaded(generator) {
    attach(generator);
    void showStorage();
  },
  leaving: detach,
});
if (refused.length > 0)
  note(`The link asks for ${refused.join(" and ")}, which this page does not have; the usual setting is used.`);
void loadFirst(linkedModel);
void startOffline();
