//! A loaded model, for JavaScript.

use std::rc::Rc;

use js_sys::Uint8Array;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::adapters::Adapters;
use super::any_engine::AnyEngine;
use super::device::DeviceChoice;
use super::js::{JsResult, to_js};
use super::kernels::PageEngine;
use super::scheduler::Scheduler;
use super::session::{Scorer, Session, json_object};
use crate::adapter::Adapter;
use crate::checkpoint::{names, packing};
use crate::engine::Engine as _;
use crate::generate::{self, GenerateOptions};
use crate::tokenizer::Tokenizer;

/// A loaded model.
#[wasm_bindgen]
pub struct Model {
    engine: Rc<PageEngine>,
    adapters: Adapters,
    tokenizer: Rc<Tokenizer>,
    defaults: GenerateOptions,
    chosen: DeviceChoice,
    self_test: String,
    /// What of the checkpoint was left out or replaced, one sentence each.
    warnings: Vec<String>,
}

impl Model {
    /// A model that is ready.
    pub(super) fn new(
        engine: PageEngine,
        tokenizer: Tokenizer,
        defaults: GenerateOptions,
        chosen: DeviceChoice,
        self_test: String,
        warnings: Vec<String>,
    ) -> Self {
        let (engine, tokenizer) = (Rc::new(engine), Rc::new(tokenizer));
        Self { engine, adapters: Adapters::default(), tokenizer, defaults, chosen, self_test, warnings }
    }
}

#[derive(Serialize)]
struct ReadAdapter {
    number: usize,
    parameters: usize,
    rank: usize,
}

#[derive(Serialize)]
struct Info<'a> {
    device: &'a str,
    adapter: Option<&'a str>,
    fallback_reason: Option<&'a str>,
    self_test: &'a str,
    dtype: &'a str,
    parameters: u64,
    weight_bytes: usize,
    context_window: usize,
    threads: u32,
    byte_products: bool,
}

#[wasm_bindgen]
impl Model {
    /// What of the checkpoint was left out or replaced, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// What is running, and where.
    pub fn info(&self) -> JsResult<JsValue> {
        let parameters = names::n_params(self.engine.config());
        to_js(&Info {
            device: self.chosen.place.name(),
            adapter: self.chosen.adapter.as_deref(),
            fallback_reason: self.chosen.fallback_reason.as_deref(),
            self_test: &self.self_test,
            dtype: self.chosen.dtype.name(),
            parameters,
            weight_bytes: packing::layout(self.engine.config(), self.chosen.dtype)?.n_bytes,
            context_window: self.engine.config().n_positions,
            threads: match &*self.engine {
                AnyEngine::Cpu(engine) => engine.kernels().js.threads(),
                AnyEngine::Gpu(_) => 1,
            },
            byte_products: match &*self.engine {
                AnyEngine::Cpu(engine) => engine.kernels().js.byte_products(),
                AnyEngine::Gpu(_) => false,
            },
        })
    }

    /// A copy of a part of the packed weights; offset and length are multiples of 4.
    #[wasm_bindgen(js_name = readPacked)]
    pub async fn read_packed(&self, offset: usize, n_bytes: usize) -> JsResult<Uint8Array> {
        Ok(match &*self.engine {
            AnyEngine::Gpu(engine) => Uint8Array::from(engine.read(offset, n_bytes).await?.as_slice()),
            AnyEngine::Cpu(engine) => engine.kernels().js.read(offset, n_bytes),
        })
    }

    /// What has been asked of the GPU so far, `undefined` on the CPU.
    /// → `{n_dispatches, n_submits, n_objects, read_bytes, encode_ms}`
    pub fn counters(&self) -> JsResult<JsValue> {
        match &*self.engine {
            AnyEngine::Gpu(engine) => to_js(&engine.counters()),
            AnyEngine::Cpu(_) => Ok(JsValue::UNDEFINED),
        }
    }

    /// Text → token ids, as transformers gives them.
    pub fn encode(&self, text: &str) -> JsResult<Vec<u32>> {
        Ok(self.tokenizer.encode(text)?)
    }

    /// A prompt → token ids: with the special tokens in front that the tokenizer wants, and none that would end the text.
    #[wasm_bindgen(js_name = encodePrompt)]
    pub fn encode_prompt(&self, text: &str) -> JsResult<Vec<u32>> {
        Ok(self.tokenizer.encode_prompt(text)?)
    }

    /// A text that continues another → token ids, without special tokens around it.
    #[wasm_bindgen(js_name = encodeContinuation)]
    pub fn encode_continuation(&self, text: &str) -> JsResult<Vec<u32>> {
        Ok(self.tokenizer.encode_continuation(text)?)
    }

    /// Token ids → text, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> JsResult<String> {
        Ok(self.tokenizer.decode(ids)?)
    }

    /// An empty text with a KV cache of its own.
    pub fn session(&self) -> Session {
        let session = generate::Session::new(self.engine.clone(), self.tokenizer.clone());
        Session::new(session, self.engine.config().clone(), self.defaults.clone())
    }

    /// Checks options without using them, so that a mistake is told before anything is computed. → all options
    #[wasm_bindgen(js_name = checkOptions)]
    pub fn check_options(&self, options_json: &str) -> JsResult<JsValue> {
        to_js(&self.defaults.with(&json_object(options_json)?, self.engine.config())?)
    }

    /// What runs texts, with so many in a pass at most; by default as many as the engine is best with.
    pub fn scheduler(&self, max_batch_size: Option<usize>) -> Scheduler {
        Scheduler { inner: generate::Scheduler::new(self.engine.clone(), max_batch_size) }
    }

    /// Takes a text to this model: the same one, loaded again. One that is written goes with its scheduler.
    #[wasm_bindgen(js_name = takeOver)]
    pub fn take_over(&self, session: &Session) {
        if let Some(mut inner) = session.inner.take() {
            inner.move_to(self.engine.clone(), self.tokenizer.clone());
            session.inner.set(Some(inner));
        }
    }

    /// Takes the texts that are written and scored to this model: the same one, loaded again.
    #[wasm_bindgen(js_name = takeOverAll)]
    pub fn take_over_all(&self, scheduler: &Scheduler) {
        scheduler.inner.move_to(self.engine.clone(), self.tokenizer.clone());
    }

    /// Reads an adapter from PEFT's two files. → `{number, parameters, rank}`, the rank being its largest
    #[wasm_bindgen(js_name = readAdapter)]
    pub fn read_adapter(&self, config_json: &str, weights: &[u8]) -> JsResult<JsValue> {
        let adapter = Adapter::from_peft(self.engine.config(), config_json, weights)?;
        let (parameters, rank) = (adapter.n_params(), adapter.max_rank());
        to_js(&ReadAdapter { number: self.adapters.keep(adapter), parameters, rank })
    }

    /// Has the engine compute the sum of adapters that were read, each with its weight. → the number of the sum, for
    /// sessions and scorers
    #[wasm_bindgen(js_name = addAdapters)]
    pub async fn add_adapters(&self, numbers: Vec<usize>, weights: Vec<f32>) -> JsResult<usize> {
        let sum = numbers.into_iter().zip(weights).collect();
        Ok(self.adapters.add(&*self.engine, sum).await?)
    }

    /// Gives up an adapter that was read, or a sum. Texts that are computed with a sum go on with it.
    #[wasm_bindgen(js_name = freeAdapter)]
    pub fn free_adapter(&self, number: usize) {
        self.adapters.free(&*self.engine, number);
    }

    /// Takes over the adapters of the same model that was loaded before, before its texts.
    #[wasm_bindgen(js_name = takeAdapters)]
    pub async fn take_adapters(&self, old: &Model) -> JsResult<()> {
        Ok(self.adapters.take_over(&*self.engine, &old.adapters).await?)
    }

    /// A text to be scored, with an adapter that the engine has or with none.
    pub fn scorer(&self, ids: Vec<u32>, adapter: Option<usize>) -> JsResult<Scorer> {
        let inner = generate::Scorer::new(self.engine.clone(), self.tokenizer.clone(), ids)?.with_adapter(adapter);
        Ok(Scorer { inner })
    }
}
