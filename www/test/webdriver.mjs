// Writes the capabilities that wasm-bindgen-test hands to chromedriver: `node webdriver.mjs FILE`.
import { writeFileSync } from "node:fs";
import { CHROMIUM, FLAGS } from "./browser.mjs";

const capabilities = { "goog:chromeOptions": { binary: CHROMIUM, args: ["--headless", ...FLAGS] } };
writeFileSync(process.argv[2], JSON.stringify(capabilities));
