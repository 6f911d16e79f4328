//! The surface for JavaScript: translates, and nothing else. JavaScript pulls; Rust never calls back into the page.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Once;

use js_sys::{Array, Float32Array, Reflect};
use serde::Serialize;
use serde_json::{Map, Value};
use wasm_bindgen::prelude::*;

use crate::device::{self, AdapterInfo, Chosen, Request};
use crate::engine::{Engine, Reference};
use crate::error::{Error, Result};
use crate::gpt2::Config;
use crate::options::GenerateOptions;
use crate::score;
use crate::session::{self, Chunk, FinishReason, Step};
use crate::tokenizer::Tokenizer;
use crate::weights::{CheckpointStream, index};

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs when the module is instantiated; has no effect after the first time.
#[wasm_bindgen(start)]
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the linker makes this function, and `ONCE` sees to it that it runs once. Unless it is called here,
        // wasm-ld wraps every export in a call of it, which made each call 100 times slower.
        unsafe { __wasm_call_ctors() };
        console_error_panic_hook::set_once();
    });
}

type JsResult<T> = std::result::Result<T, JsValue>;

impl From<Error> for JsValue {
    /// A JavaScript `Error` with `code` and the details as properties.
    fn from(error: Error) -> Self {
        let js = js_sys::Error::new(&error.to_string());
        let mut properties = vec![("code", error.code().to_string())];
        match error {
            Error::UnsupportedModel { field, expected, found } => {
                properties.extend([("field", field), ("expected", expected), ("found", found)]);
            }
            Error::Checkpoint { file, tensor, expected, found } => {
                properties.extend([("file", file), ("expected", expected), ("found", found)]);
                properties.extend(tensor.map(|tensor| ("tensor", tensor)));
            }
            Error::InvalidOption { option, expected, found } => {
                properties.extend([("option", option), ("expected", expected), ("found", found)]);
            }
            Error::ContextWindow { n_ctx, found } => {
                properties.extend([("expected", n_ctx.to_string()), ("found", found)]);
            }
            Error::OutOfMemory { what, n_bytes } => {
                properties.extend([("what", what), ("n_bytes", n_bytes.to_string())]);
            }
            Error::WebGpuNotAvailable(_) | Error::DeviceLost(_) | Error::InvalidLogits(_) | Error::InvalidState(_) => {}
        }
        for (name, value) in properties {
            set(&js, name, &value.into());
        }
        js.into()
    }
}

/// Sets a property of an object that we made ourselves, which cannot fail.
fn set(object: &JsValue, name: &str, value: &JsValue) {
    let is_set = Reflect::set(object, &name.into(), value);
    debug_assert!(is_set.is_ok());
}

/// Rust values as plain JavaScript objects.
fn to_js<T: Serialize>(value: &T) -> JsResult<JsValue> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

/// The page's clock, from a worker or a window.
fn now_ms() -> f64 {
    let global = js_sys::global();
    let performance = match global.dyn_ref::<web_sys::WorkerGlobalScope>() {
        Some(worker) => worker.performance(),
        None => global.dyn_ref::<web_sys::Window>().and_then(web_sys::Window::performance),
    };
    performance.map_or_else(js_sys::Date::now, |performance| performance.now())
}

fn json_object(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| Error::invalid_option("options", "an object", e.to_string()))
}

/// Names of the shards in a `model.safetensors.index.json`.
#[wasm_bindgen(js_name = shardNames)]
pub fn shard_names(index_json: &str) -> JsResult<Vec<String>> {
    Ok(index::shard_names(index_json)?)
}

/// Loads a model: configuration, tokenizer, device, then the checkpoint's bytes as they arrive.
#[wasm_bindgen]
pub struct Loader {
    config: Config,
    defaults: GenerateOptions,
    tokenizer: Option<Tokenizer>,
    target: Option<(Chosen, CheckpointStream)>,
}

#[wasm_bindgen]
impl Loader {
    /// Begins with the text of `config.json` and, if there is one, of `generation_config.json`.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str, generation_config_json: Option<String>) -> JsResult<Loader> {
        let config = Config::from_json(config_json)?;
        let defaults = GenerateOptions::defaults(&config, generation_config_json.as_deref())?;
        Ok(Loader { config, defaults, tokenizer: None, target: None })
    }

    /// Takes the bytes of a `tokenizer.json`.
    #[wasm_bindgen(js_name = tokenizerJson)]
    pub fn tokenizer_json(&mut self, json: &[u8]) -> JsResult<()> {
        self.tokenizer = Some(Tokenizer::from_tokenizer_json(json)?);
        Ok(())
    }

    /// Takes the texts of `vocab.json` and `merges.txt`.
    #[wasm_bindgen(js_name = vocabAndMerges)]
    pub fn vocab_and_merges(&mut self, vocab: &str, merges: &str) -> JsResult<()> {
        self.tokenizer = Some(Tokenizer::from_vocab_and_merges(vocab, merges)?);
        Ok(())
    }

    /// What opening the device would choose, without opening it. → `{device, fallback_reason, dtype, device_bytes}`
    #[wasm_bindgen(js_name = expectedDevice)]
    pub fn expected_device(&self, request: &str, adapter_json: Option<String>) -> JsResult<JsValue> {
        let adapter = adapter_info(adapter_json)?;
        let (device, fallback_reason) = device::expected(Request::from_name(request)?, adapter.as_ref())?;
        if device == "wasm" {
            device::check_memory(&self.config)?;
        }
        to_js(&ExpectedDevice { device, fallback_reason, dtype: DTYPE, device_bytes: weight_bytes(&self.config) })
    }

    /// Opens the device (`"auto"`, `"webgpu"`, `"wasm"`); `adapter_json` is what the browser tells of its adapter, if
    /// it has one.
    #[wasm_bindgen(js_name = openDevice)]
    pub async fn open_device(&mut self, request: &str, adapter_json: Option<String>) -> JsResult<()> {
        let adapter = adapter_info(adapter_json)?;
        let chosen = device::open(Request::from_name(request)?, adapter.as_ref(), &self.config).await?;
        let stream = CheckpointStream::new(self.config.clone(), chosen.device.clone());
        self.target = Some((chosen, stream));
        Ok(())
    }

    /// Begins one safetensors file of `n_bytes`, where that is known.
    #[wasm_bindgen(js_name = beginFile)]
    pub fn begin_file(&mut self, name: &str, n_bytes: Option<f64>) -> JsResult<()> {
        Ok(self.stream()?.begin_file(name, n_bytes.map(|n| n as u64))?)
    }

    /// Takes the next bytes of that file.
    pub fn write(&mut self, bytes: &[u8]) -> JsResult<()> {
        Ok(self.stream()?.write(bytes)?)
    }

    /// Ends the checkpoint and makes the model.
    pub fn finish(self) -> JsResult<Model> {
        let Some((chosen, stream)) = self.target else { return Err(no_device()) };
        let Some(tokenizer) = self.tokenizer else {
            return Err(Error::file("tokenizer.json", "a tokenizer", "none").into());
        };
        let engine = Reference::new(self.config, &mut stream.finish()?, chosen.device.clone())?;
        Ok(Model { engine: Rc::new(engine), tokenizer: Rc::new(tokenizer), defaults: self.defaults, chosen })
    }

    fn stream(&mut self) -> JsResult<&mut CheckpointStream> {
        self.target.as_mut().map(|(_, stream)| stream).ok_or_else(no_device)
    }
}

fn adapter_info(json: Option<String>) -> Result<Option<AdapterInfo>> {
    let wrong = |e: serde_json::Error| Error::invalid_option("adapter", "what GPUAdapterInfo has", e.to_string());
    json.map(|json| serde_json::from_str(&json).map_err(wrong)).transpose()
}

/// The number format that the engine computes in.
const DTYPE: &str = "fp32";

fn weight_bytes(config: &Config) -> u64 {
    config.n_params() * 4
}

#[derive(Serialize)]
struct ExpectedDevice<'a> {
    device: &'a str,
    fallback_reason: Option<String>,
    dtype: &'a str,
    device_bytes: u64,
}

fn no_device() -> JsValue {
    Error::InvalidState("no device has been opened".into()).into()
}

/// A loaded model.
#[wasm_bindgen]
pub struct Model {
    engine: Rc<Reference>,
    tokenizer: Rc<Tokenizer>,
    defaults: GenerateOptions,
    chosen: Chosen,
}

#[derive(Serialize)]
struct Info<'a> {
    device: &'a str,
    adapter: Option<&'a str>,
    fallback_reason: Option<&'a str>,
    self_test: &'a str,
    dtype: &'a str,
    parameters: u64,
    weight_bytes: u64,
    context_window: usize,
    threads: u32,
}

#[wasm_bindgen]
impl Model {
    /// What is running, and where.
    pub fn info(&self) -> JsResult<JsValue> {
        let parameters = self.engine.config().n_params();
        to_js(&Info {
            device: self.chosen.name,
            adapter: self.chosen.adapter.as_deref(),
            fallback_reason: self.chosen.fallback_reason.as_deref(),
            self_test: &self.chosen.self_test,
            dtype: DTYPE,
            parameters,
            weight_bytes: weight_bytes(self.engine.config()),
            context_window: self.engine.config().n_positions,
            threads: 1,
        })
    }

    /// Text → token ids.
    pub fn encode(&self, text: &str) -> JsResult<Vec<u32>> {
        Ok(self.tokenizer.encode(text)?)
    }

    /// Token ids → text, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> JsResult<String> {
        Ok(self.tokenizer.decode(ids)?)
    }

    /// An empty text with a KV cache of its own.
    pub fn session(&self) -> Session {
        let session = session::Session::new(self.engine.clone(), self.tokenizer.clone());
        Session {
            config: self.engine.config().clone(),
            defaults: self.defaults.clone(),
            inner: Cell::new(Some(session)),
        }
    }

    /// A text to be scored.
    pub fn scorer(&self, ids: Vec<u32>) -> JsResult<Scorer> {
        let scorer = score::Scorer::new(self.engine.clone(), self.tokenizer.clone(), ids)?;
        Ok(Scorer { inner: Cell::new(Some(scorer)) })
    }
}

/// A text with its KV cache.
#[wasm_bindgen]
pub struct Session {
    config: Config,
    defaults: GenerateOptions,
    /// Taken out while a call uses it, so that a second call meanwhile is an error and not a panic.
    inner: Cell<Option<session::Session<Reference>>>,
}

#[derive(Serialize)]
struct StepMessage<'a> {
    kind: &'a str,
    /// How long the step took.
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_done: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<&'a Chunk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<FinishReason>,
}

#[wasm_bindgen]
impl Session {
    fn with<T>(&self, f: impl FnOnce(&mut session::Session<Reference>) -> T) -> JsResult<T> {
        let mut inner = take(&self.inner)?;
        let result = f(&mut inner);
        self.inner.set(Some(inner));
        Ok(result)
    }

    /// Makes the text `ids`, keeping what the cache holds of the same beginning if `reuse_prefix`.
    pub fn replace(&self, ids: Vec<u32>, reuse_prefix: bool) -> JsResult<()> {
        self.with(|s| s.replace(ids, reuse_prefix))
    }

    /// Appends to the text.
    pub fn append(&self, ids: &[u32]) -> JsResult<()> {
        self.with(|s| s.append(ids))
    }

    /// Takes the last `n_tokens` back.
    pub fn rewind(&self, n_tokens: usize) -> JsResult<()> {
        Ok(self.with(|s| s.rewind(n_tokens))??)
    }

    /// The text so far.
    pub fn ids(&self) -> JsResult<Vec<u32>> {
        self.with(|s| s.ids().to_vec())
    }

    /// Tokens that the context window holds now.
    #[wasm_bindgen(js_name = contextUsage)]
    pub fn context_usage(&self) -> JsResult<usize> {
        self.with(|s| s.context_usage())
    }

    /// A copy of the text and its cache.
    #[wasm_bindgen(js_name = clone)]
    pub fn js_clone(&self) -> JsResult<Session> {
        let inner = self.with(|s| s.clone())?;
        Ok(Session { config: self.config.clone(), defaults: self.defaults.clone(), inner: Cell::new(Some(inner)) })
    }

    /// Starts a generation after the text; `options_json` as a caller gave them, `seed` if they have none.
    /// → the options as they will be used, and `n_prompt`
    pub fn begin(&self, options_json: &str, seed: u64) -> JsResult<JsValue> {
        let options = self.defaults.with(&json_object(options_json)?, &self.config)?;
        self.with(|s| s.begin(options, seed))??;
        let (options, n_prompt) = self.with(|s| (s.options().cloned(), s.n_prompt()))?;
        let js = to_js(&options)?;
        set(&js, "n_prompt", &n_prompt.into());
        Ok(js)
    }

    /// Checks options without using them, so that a mistake is told before anything is computed.
    #[wasm_bindgen(js_name = checkOptions)]
    pub fn check_options(&self, options_json: &str) -> JsResult<JsValue> {
        to_js(&self.defaults.with(&json_object(options_json)?, &self.config)?)
    }

    /// Does the next piece of work, in `ms`. → `{kind: "prefill", n_done, n_total}`, `{kind: "token", chunk, finish_reason?}` or
    /// `{kind: "full"}`
    pub async fn step(&self) -> JsResult<JsValue> {
        let mut inner = take(&self.inner)?;
        let start_ms = now_ms();
        let step = inner.step().await;
        let ms = now_ms() - start_ms;
        self.inner.set(Some(inner));
        let mut message =
            StepMessage { kind: "full", ms, n_done: None, n_total: None, chunk: None, finish_reason: None };
        match step? {
            Step::Full => to_js(&message),
            Step::Prefill { n_done, n_total } => {
                message = StepMessage { kind: "prefill", n_done: Some(n_done), n_total: Some(n_total), ..message };
                to_js(&message)
            }
            Step::Token(chunk, finish_reason) => {
                let js = to_js(&StepMessage { kind: "token", chunk: Some(&chunk), finish_reason, ..message })?;
                if let Some(blocks) = &chunk.attentions {
                    let blocks: Array =
                        blocks.iter().map(|w| JsValue::from(Float32Array::from(w.as_slice()))).collect();
                    set(&Reflect::get(&js, &"chunk".into())?, "attentions", &blocks);
                }
                Ok(js)
            }
        }
    }

    /// Ends the generation early but softly. → text that was held back
    pub fn interrupt(&self) -> JsResult<String> {
        self.with(|s| s.interrupt())
    }
}

/// A text that is being scored.
#[wasm_bindgen]
pub struct Scorer {
    inner: Cell<Option<score::Scorer<Reference>>>,
}

#[wasm_bindgen]
impl Scorer {
    /// Scores the next few tokens. → `[n_done, n_total]`
    pub async fn step(&self) -> JsResult<Vec<u32>> {
        let mut inner = take(&self.inner)?;
        let step = inner.step().await;
        self.inner.set(Some(inner));
        let (n_done, n_total) = step?;
        Ok(vec![n_done as u32, n_total as u32])
    }

    /// The score, once every token has one.
    pub fn finish(self) -> JsResult<JsValue> {
        to_js(&take(&self.inner)?.finish())
    }
}

fn take<T>(cell: &Cell<Option<T>>) -> JsResult<T> {
    cell.take().ok_or_else(|| Error::InvalidState("another call is still running".into()).into())
}
