/**
 * The page: a model, a prompt, the text it writes, and how.
 *
 * Reading order: `page/model.ts` (choose and load), `page/writing.ts` (prompt to text), `page/sampling.ts` (options),
 * then `page/storage.ts`, `page/settings.ts`, `page/files.ts`, `page/alert.ts`, `page/offline.ts`.
 */
import { isAbort } from "./elements/explain.js";
import { showError } from "./page/alert.js";
import { note } from "./page/dom.js";
import { loadFirst, startModel } from "./page/model.js";
import { startOffline } from "./page/offline.js";
import { startSampling } from "./page/sampling.js";
import { startSettings } from "./page/settings.js";
import { showStorage, startStorage } from "./page/storage.js";
import { attach, detach, startWriting } from "./page/writing.js";

// What nobody caught is shown as well: an error that is only in the console is an error nobody sees.
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
if (refused.length > 0) note(`The link asks for ${refused.join(" and ")}, which this page does not have; the usual setting is used.`);
void loadFirst(linkedModel);
void startOffline();
