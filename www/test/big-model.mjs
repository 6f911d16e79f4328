// A model of one large file on a server that may misbehave: the demo model with 20 MB before its tensors.
import { beforeEach } from "node:test";
import { paddedDemo, safetensors } from "./safetensors.mjs";
import { ServedFile } from "./served-file.mjs";

/** The name under which the package knows it. */
export const BIG = "/models/big";
export const BIG_WEIGHTS = `${BIG}/model.safetensors`;

/** Serves it on a stage. → the file of its weights, which begins each test as it was at first */
export function serveBigModel(stage) {
  const file = new ServedFile(safetensors(paddedDemo(1, 20 << 20)[0]));
  stage.served.hooks.intercept = (request, response) => {
    const small = /^\/models\/big\/(config|tokenizer)\.json$/.exec(request.url);
    if (small) response.writeHead(302, { Location: `/models/whole/${small[1]}.json` }).end();
    else if (request.url === BIG_WEIGHTS) file.answer(request, response);
    else return false;
    return true;
  };
  beforeEach(() => file.reset());
  return file;
}
