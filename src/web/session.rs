//! Generating and scoring, for JavaScript.

use std::cell::Cell;

use js_sys::{Array, Float32Array, Reflect};
use serde::Serialize;
use serde_json::{Map, Value};
use wasm_bindgen::prelude::*;

use super::js::{JsResult, now_ms, set, take, to_js};
use super::kernels::PageEngine;
use crate::checkpoint::Config;
use crate::error::{Error, Result};
use crate::generate::{self, Chunk, FinishReason, GenerateOptions, Step};

fn json_object(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| Error::invalid_option("options", "an object", e.to_string()))
}

/// A text with its KV cache.
#[wasm_bindgen]
pub struct Session {
    config: Config,
    defaults: GenerateOptions,
    /// Taken out while a call uses it, so that a second call meanwhile is an error and not a panic.
    inner: Cell<Option<generate::Session<PageEngine>>>,
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

impl Session {
    /// A text of the model's.
    pub(super) fn new(session: generate::Session<PageEngine>, config: Config, defaults: GenerateOptions) -> Self {
        Self { config, defaults, inner: Cell::new(Some(session)) }
    }

    /// Uses it, unless another call does.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut generate::Session<PageEngine>) -> T) -> JsResult<T> {
        let mut inner = take(&self.inner)?;
        let result = f(&mut inner);
        self.inner.set(Some(inner));
        Ok(result)
    }
}

#[wasm_bindgen]
impl Session {
    /// What the text is computed with from now on, the whole of it: an adapter that the engine has, or none.
    #[wasm_bindgen(js_name = setAdapter)]
    pub fn set_adapter(&self, adapter: Option<usize>) -> JsResult<()> {
        self.with(|s| s.set_adapter(adapter))
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

    /// Does the next piece of work, in `ms`: at most `max_tokens` of a prompt. → `{kind: "prefill", n_done, n_total}`,
    /// `{kind: "refill"}` or `{kind: "token", chunk, finish_reason?}`
    pub async fn step(&self, max_tokens: usize) -> JsResult<JsValue> {
        let mut inner = take(&self.inner)?;
        let start_ms = now_ms();
        let step = inner.step(max_tokens).await;
        let ms = now_ms() - start_ms;
        self.inner.set(Some(inner));
        let mut message =
            StepMessage { kind: "refill", ms, n_done: None, n_total: None, chunk: None, finish_reason: None };
        match step? {
            Step::Refill => to_js(&message),
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
    inner: Cell<Option<generate::Scorer<PageEngine>>>,
}

impl Scorer {
    /// A scorer of the model's.
    pub(super) fn new(scorer: generate::Scorer<PageEngine>) -> Self {
        Self { inner: Cell::new(Some(scorer)) }
    }
}

#[wasm_bindgen]
impl Scorer {
    /// Scores the next tokens, at most `max_tokens`. → `[n_done, n_total]`
    pub async fn step(&self, max_tokens: usize) -> JsResult<Vec<u32>> {
        let mut inner = take(&self.inner)?;
        let step = inner.step(max_tokens).await;
        self.inner.set(Some(inner));
        let (n_done, n_total) = step?;
        Ok(vec![n_done as u32, n_total as u32])
    }

    /// The score, once every token has one.
    pub fn finish(self) -> JsResult<JsValue> {
        to_js(&take(&self.inner)?.finish())
    }
}
