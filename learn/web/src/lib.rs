//! Fine-tuning for JavaScript: an adapter that learns a text beside a model's packed weights. It translates and nothing
//! else; what is computed is in `gpt2-learn`.
#![cfg(target_arch = "wasm32")]

use gpt2_kernels::Dtype;
use learn::checkpoint::{read_model, unpack};
use learn::lora::{self, FinetuneSettings, peft_files};
use learn::{Error, fused::Model};
use serde::Serialize;
use wasm_bindgen::prelude::*;

type JsResult<T> = std::result::Result<T, JsValue>;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the linker makes this function, and `ONCE` sees to it that it runs once; without the call, wasm-ld
        // would run it at every export
        unsafe { __wasm_call_ctors() };
        console_error_panic_hook::set_once();
    });
}

/// A JavaScript `Error` with `code` and the details as properties.
fn to_error(error: Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    let mut properties = Vec::new();
    match error {
        Error::Option { option, expected, found } => {
            properties.extend([
                ("code", "invalid_option".to_string()),
                ("option", option.to_string()),
                ("expected", expected),
                ("found", found),
            ]);
        }
        Error::Model(error) => properties.push(("code", error.code().to_string())),
        Error::Diverged { .. } => properties.push(("code", "diverged".to_string())),
        _ => properties.push(("code", "invalid_state".to_string())),
    }
    for (name, value) in properties {
        // a property of an object that we made ourselves: cannot fail
        let is_set = js_sys::Reflect::set(&js, &name.into(), &value.into());
        debug_assert!(is_set.is_ok());
    }
    js.into()
}

fn to_js<T: Serialize>(value: &T) -> JsResult<JsValue> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

fn settings(json: &str) -> JsResult<FinetuneSettings> {
    let wrong = |e: serde_json::Error| Error::option("options", "settings of a fine-tuning", e);
    serde_json::from_str(json).map_err(wrong).map_err(to_error)
}

fn model(config_json: &str, is_untied: bool) -> JsResult<Model> {
    let (model, _, _) = read_model(config_json).map_err(to_error)?;
    Ok(if is_untied { Model::new(model.config.untied(), model.rates) } else { model })
}

/// Bytes that fine-tuning takes at its peak; see `estimate_bytes`.
#[wasm_bindgen(js_name = estimateBytes)]
pub fn estimate_bytes(config_json: &str, settings_json: &str) -> JsResult<f64> {
    let n_bytes = lora::estimate_bytes(&model(config_json, false)?, &settings(settings_json)?).map_err(to_error)?;
    Ok(n_bytes as f64)
}

/// A model's packed weights on their way here.
#[wasm_bindgen]
pub struct Weights {
    model: Model,
    dtype: Dtype,
    image: Vec<u8>,
}

#[wasm_bindgen]
impl Weights {
    /// Makes room for the weights of a model.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str, is_untied: bool, dtype: &str, n_bytes: usize) -> JsResult<Weights> {
        let model = model(config_json, is_untied)?;
        let found = Dtype::ALL.into_iter().find(|known| known.name() == dtype);
        let dtype = found.ok_or_else(|| to_error(Error::option("dtype", "one of the engine's", dtype)))?;
        let mut image = Vec::new();
        let full = |_| to_error(Error::option("memory", format!("room for {n_bytes} bytes of weights"), "less"));
        image.try_reserve_exact(n_bytes).map_err(full)?;
        Ok(Self { model, dtype, image })
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.image.extend_from_slice(bytes);
    }
}

/// An adapter that learns a text.
#[wasm_bindgen]
pub struct Finetune {
    inner: lora::Finetune,
}

#[wasm_bindgen]
impl Finetune {
    /// Begins. `ids` are the tokens of all texts, and `lengths` how many each text has.
    #[wasm_bindgen(constructor)]
    pub fn new(weights: Weights, ids: &[u32], lengths: &[usize], settings_json: &str) -> JsResult<Finetune> {
        let settings = settings(settings_json)?;
        let Weights { model, dtype, image } = weights;
        let base = unpack(&model.config, &model.layout, dtype, &image).map_err(to_error)?;
        drop(image);
        let mut rest = ids;
        let mut texts = Vec::with_capacity(lengths.len());
        for &n in lengths {
            let (text, after) = rest.split_at(n.min(rest.len()));
            texts.push(text.to_vec());
            rest = after;
        }
        let inner = lora::Finetune::new(model, base, &texts, settings).map_err(to_error)?;
        Ok(Self { inner })
    }

    /// The loss on what is kept back before anything is learnt, nats per token; `undefined` where nothing is kept back.
    #[wasm_bindgen(js_name = evalLoss)]
    pub fn eval_loss(&mut self) -> Option<f64> {
        self.inner.eval_loss()
    }

    /// The next step. → `FinetuneReport`
    pub fn step(&mut self) -> JsResult<JsValue> {
        to_js(&self.inner.step().map_err(to_error)?)
    }

    /// The adapter's parameters now.
    pub fn params(&self) -> Vec<f32> {
        self.inner.params().to_vec()
    }

    /// PEFT's files of an adapter with these parameters. → `[name, bytes][]`
    pub fn files(&self, params: &[f32], base: &str) -> JsResult<js_sys::Array> {
        let files = peft_files(&self.inner.settings().lora(), self.inner.layout(), params, base).map_err(to_error)?;
        let pairs = files.into_iter().map(|(name, bytes)| {
            js_sys::Array::of2(&name.into(), &js_sys::Uint8Array::from(bytes.as_slice()))
        });
        Ok(pairs.collect())
    }
}
