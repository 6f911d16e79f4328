//! Fine-tuning for JavaScript: an adapter that learns a text beside a model's packed weights, or the model itself. It
//! translates and nothing else; what is computed is in `gpt2-learn`.
#![cfg(target_arch = "wasm32")]

use gpt2_kernels::Dtype;
use gpt2_web::adapter::Adapter;
use gpt2_web::checkpoint::packing;
use learn::checkpoint::{Stored, config_of, packed, pretty, read_model, safetensors, unpack};
use learn::finetune::{self, FinetuneSettings};
use learn::lora::{merge, parameters, peft_files};
use learn::{Error, fused::Model};
use serde::Serialize;
use serde_json::Value;
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
        Error::Model(error) => {
            properties.push(("code", error.code().to_string()));
            if let gpt2_web::Error::Checkpoint { file, tensor, expected, found } = error {
                properties.extend([("file", file), ("expected", expected), ("found", found)]);
                properties.extend(tensor.map(|tensor| ("tensor", tensor)));
            }
        }
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

/// A model's shape, and its `config.json`.
fn model(config_json: &str, is_untied: bool) -> JsResult<(Model, Value)> {
    let (model, config, _) = read_model(config_json).map_err(to_error)?;
    Ok((if is_untied { Model::new(model.config.untied(), model.rates) } else { model }, config))
}

fn dtype_of(name: &str) -> JsResult<Dtype> {
    let found = Dtype::ALL.into_iter().find(|known| known.name() == name);
    found.ok_or_else(|| to_error(Error::option("dtype", "one of the engine's", name)))
}

/// What a fine-tuning would take.
#[derive(Serialize)]
struct Plan {
    /// At its peak.
    memory_bytes: f64,
    /// At most.
    steps: u64,
    has_held_out: bool,
}

/// What fine-tuning takes beside packed weights of `image_bytes`, which are there until they are read; a text or a setting
/// that cannot be used is an error. `ids` are the tokens of all texts, and `lengths` how many each text has. → `Plan`
#[wasm_bindgen]
pub fn plan(
    config_json: &str,
    ids: &[u32],
    lengths: &[usize],
    settings_json: &str,
    image_bytes: f64,
) -> JsResult<JsValue> {
    let ((model, _), settings) = (model(config_json, false)?, settings(settings_json)?);
    let (windows, steps) = finetune::plan(&model, &texts(ids, lengths), &settings).map_err(to_error)?;
    let learning = finetune::estimate_bytes(&model, &settings).map_err(to_error)? as f64;
    let reading = 4.0 * model.layout.n_params as f64 + image_bytes;
    to_js(&Plan { memory_bytes: reading.max(learning), steps, has_held_out: windows.has_held_out() })
}

/// Tokens by text.
fn texts(ids: &[u32], lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut rest = ids;
    let text = |&n: &usize| {
        let (text, after) = rest.split_at(n.min(rest.len()));
        rest = after;
        text.to_vec()
    };
    lengths.iter().map(text).collect()
}

/// Sees to it that so many bytes can be had.
#[wasm_bindgen(js_name = makeRoom)]
pub fn make_room(n_bytes: f64) -> JsResult<()> {
    let mut room = Vec::<u8>::new();
    // a WebAssembly memory never shrinks, so what was had once can be had again
    if n_bytes > usize::MAX as f64 || room.try_reserve_exact(n_bytes as usize).is_err() {
        return Err(to_error(gpt2_web::Error::OutOfMemory { what: "learning".into(), n_bytes: n_bytes as u64 }.into()));
    }
    Ok(())
}

/// A model's packed weights on their way here.
#[wasm_bindgen]
pub struct Weights {
    model: Model,
    /// `config.json`
    config: Value,
    dtype: Dtype,
    image: Vec<u8>,
}

#[wasm_bindgen]
impl Weights {
    /// Makes room for the weights of a model.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str, is_untied: bool, dtype: &str, n_bytes: usize) -> JsResult<Weights> {
        let (model, config) = model(config_json, is_untied)?;
        let dtype = dtype_of(dtype)?;
        let mut image = Vec::new();
        let full = || gpt2_web::Error::OutOfMemory { what: "the model's weights".into(), n_bytes: n_bytes as u64 };
        image.try_reserve_exact(n_bytes).map_err(|_| to_error(full().into()))?;
        Ok(Self { model, config, dtype, image })
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.image.extend_from_slice(bytes);
    }

    /// A checkpoint of the model with an adapter added to it, given as PEFT's files. → `[name, bytes][]`
    pub fn merged(self, adapter_config: &str, adapter_weights: &[u8], weight: f32) -> JsResult<js_sys::Array> {
        let Self { model, config, dtype, image } = self;
        let adapter = Adapter::from_peft(&model.config, adapter_config, adapter_weights);
        let (layout, numbers) = parameters(&adapter.map_err(|e| to_error(e.into()))?, model.config.n_layer);
        let mut params = unpack(&model.config, &model.layout, dtype, &image).map_err(to_error)?;
        drop(image);
        merge(&mut params, &model.layout, (&layout, &numbers), weight);
        Ok(pairs(checkpoint_files(&model, &config, &params)?))
    }
}

/// `config.json` and `model.safetensors` of a model with these parameters.
fn checkpoint_files(model: &Model, config: &Value, params: &[f32]) -> JsResult<[(&'static str, Vec<u8>); 2]> {
    let weights = safetensors(&model.layout, params, Stored::F32).map_err(to_error)?;
    let mut config = config_of(config, Stored::F32);
    config["tie_word_embeddings"] = model.config.tie_word_embeddings.into(); // which the file may be wrong about
    Ok([("config.json", pretty(&config).into_bytes()), ("model.safetensors", weights)])
}

/// The version of the packed weights' layout.
#[wasm_bindgen(js_name = layoutVersion)]
pub fn layout_version() -> u32 {
    gpt2_kernels::LAYOUT_VERSION
}

/// The weights of a checkpoint that came from here in the engine's own form. weights: its safetensors file
/// → `[name, bytes]`
#[wasm_bindgen]
pub fn pack(config_json: &str, weights: &[u8], dtype: &str) -> JsResult<js_sys::Array> {
    let (model, _) = model(config_json, false)?;
    let dtype = dtype_of(dtype)?;
    let image = packed(&model, weights, dtype).map_err(to_error)?;
    let name = packing::packed_name(dtype.name(), false);
    Ok(js_sys::Array::of2(&name.into(), &js_sys::Uint8Array::from(image.as_slice())))
}

/// Files for JavaScript.
fn pairs<const N: usize>(files: [(&str, Vec<u8>); N]) -> js_sys::Array {
    let pair =
        |(name, bytes): (&str, Vec<u8>)| js_sys::Array::of2(&name.into(), &js_sys::Uint8Array::from(bytes.as_slice()));
    files.into_iter().map(pair).collect()
}

/// A fine-tuning under way.
#[wasm_bindgen]
pub struct Finetune {
    model: Model,
    config: Value,
    inner: finetune::Finetune,
}

#[wasm_bindgen]
impl Finetune {
    /// Begins. `ids` are the tokens of all texts, and `lengths` how many each text has.
    #[wasm_bindgen(constructor)]
    pub fn new(weights: Weights, ids: &[u32], lengths: &[usize], settings_json: &str) -> JsResult<Finetune> {
        let settings = settings(settings_json)?;
        let Weights { model, config, dtype, image } = weights;
        let params = unpack(&model.config, &model.layout, dtype, &image).map_err(to_error)?;
        drop(image);
        let texts = texts(ids, lengths);
        let inner = finetune::Finetune::new(model.clone(), params, &texts, settings).map_err(to_error)?;
        Ok(Self { model, config, inner })
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

    /// How many steps it makes at most.
    #[wasm_bindgen(getter, js_name = nSteps)]
    pub fn n_steps(&self) -> f64 {
        self.inner.n_steps() as f64
    }

    /// What has been learnt so far: PEFT's files of the adapter, or a checkpoint. → `[name, bytes][]`
    pub fn files(&self, base: &str) -> JsResult<js_sys::Array> {
        let run = &self.inner;
        let files = match run.lora_layout() {
            Some(layout) => peft_files(&run.settings().lora(), layout, run.params(), base).map_err(to_error)?,
            None => checkpoint_files(&self.model, &self.config, run.params())?,
        };
        Ok(pairs(files))
    }

    /// Where it stands, for `restore`. → `Progress`
    pub fn progress(&self) -> JsResult<JsValue> {
        to_js(&self.inner.progress())
    }

    /// The parameters of what learns and their moments, for `restore`.
    pub fn numbers(&self) -> Vec<f32> {
        self.inner.numbers()
    }

    /// Goes on where an earlier visit stood, which had the same model, text and settings.
    pub fn restore(&mut self, progress: JsValue, numbers: &[f32]) -> JsResult<()> {
        let progress = serde_wasm_bindgen::from_value(progress)?;
        self.inner.restore(progress, numbers).map_err(to_error)
    }
}
