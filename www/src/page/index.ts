/**
 * The page: five views of one model, each with a script of its own that is fetched when it is opened.
 *
 * Reading order: `router.ts` (which view is shown), `engine.ts` (the model), `first-load.ts`, then a view's `index.ts`:
 * `write/`, `look/`, `learn/`, `speed/`, `models/`; beside them `settings.ts`, `adapters.ts`, `alert.ts`, `offline.ts`.
 */
import { isAbort } from "../api/errors.js";
import { showError } from "./alert.js";
import { note } from "./dom.js";
import { startDrops } from "./files.js";
import { offer, startFirstLoad } from "./first-load.js";
import { startOffline } from "./offline.js";
import { startRouter } from "./router.js";
import { startSettings } from "./settings.js";

// Errors that nothing caught are shown too: few people look into the console.
addEventListener("unhandledrejection", (event) => {
  if (!isAbort(event.reason)) showError(event.reason);
});
addEventListener("error", (event) => showError(event.error ?? event.message));

/** What is dropped on Learn is a text or an adapter, elsewhere a model. */
async function takeDropped(files: Record<string, File>): Promise<void> {
  if (document.documentElement.dataset.view !== "learn") return offer({ files });
  (await import("./learn/index.js")).takeFiles(files);
}

const { linkedModel, refused } = startSettings();
if (refused.length > 0)
  note(`The link asks for ${refused.join(" and ")}, which this page does not have; the usual setting is used.`);
void startRouter();
startDrops((files) => void takeDropped(files), showError);
void startFirstLoad(linkedModel);
void startOffline();
