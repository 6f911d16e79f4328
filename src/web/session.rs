//! Texts, for JavaScript.

use std::cell::Cell;

use serde_json::{Map, Value};
use wasm_bindgen::prelude::*;

use super::js::{JsResult, set, take, to_js};
use super::kernels::PageEngine;
use crate::checkpoint::Config;
use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions};

/// Options as a caller gave them.
pub(super) fn json_object(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| Error::invalid_option("options", "an object", e.to_string()))
}

/// A text with its KV cache.
#[wasm_bindgen]
pub struct Session {
    config: Config,
    defaults: GenerateOptions,
    /// Taken out while a call uses it or it is written, so that another call meanwhile is an error and not a panic.
    pub(super) inner: Cell<Option<generate::Session<PageEngine>>>,
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

    /// How many of the first of these tokens it has computed already.
    #[wasm_bindgen(js_name = nCommon)]
    pub fn n_common(&self, ids: &[u32]) -> JsResult<usize> {
        self.with(|s| s.n_common(ids))
    }

    /// Bytes of its cache, of which it may share some with its copies; 0 while it is written.
    #[wasm_bindgen(js_name = cacheBytes)]
    pub fn cache_bytes(&self) -> usize {
        let inner = self.inner.take();
        let n_bytes = inner.as_ref().map_or(0, generate::Session::cache_bytes);
        self.inner.set(inner);
        n_bytes
    }

    /// Frees the cache, which is filled again when it is needed.
    #[wasm_bindgen(js_name = dropCache)]
    pub fn drop_cache(&self) -> JsResult<()> {
        self.with(|s| s.drop_cache())
    }
}

/// A text that is to be scored.
#[wasm_bindgen]
pub struct Scorer {
    pub(super) inner: generate::Scorer<PageEngine>,
}
