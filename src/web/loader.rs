//! Loading, for JavaScript: configuration, tokenizer, device, then weights, packed already or not yet.

use std::rc::Rc;

use gpt2_kernels::{Dtype, LAYOUT_VERSION};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::kernels::{KernelModule, Module};
use super::model::Model;
use super::{JsResult, to_js};
use crate::device::{self, AdapterInfo, Chosen, Place, Request};
use crate::engine::{Any, Cpu, Reference};
use crate::error::{Error, Result};
use crate::gpt2::Config;
use crate::options::GenerateOptions;
use crate::self_test;
use crate::tokenizer::Tokenizer;
use crate::weights::{CheckpointStream, Packed, Sink, Tensors, index, packed};

/// Names of the shards in a `model.safetensors.index.json`.
#[wasm_bindgen(js_name = shardNames)]
pub fn shard_names(index_json: &str) -> JsResult<Vec<String>> {
    Ok(index::shard_names(index_json)?)
}

/// Under which name packed weights of a format are kept; another layout has another name.
#[wasm_bindgen(js_name = packedName)]
pub fn packed_name(dtype: &str) -> String {
    format!("model.{dtype}.v{LAYOUT_VERSION}.packed")
}

/// Loads a model.
#[wasm_bindgen]
pub struct Loader {
    config: Config,
    defaults: GenerateOptions,
    tokenizer: Option<Tokenizer>,
    target: Option<Target>,
}

/// Where the weights go.
struct Target {
    chosen: Chosen,
    self_test: String,
    engine: TargetEngine,
}

enum TargetEngine {
    /// The kernels, and the stream that packs, from the checkpoint's first byte on.
    Cpu(Rc<Module>, Option<CheckpointStream<Box<dyn Sink>>>),
    Reference(CheckpointStream<Tensors>),
}

#[derive(Serialize)]
struct Expected<'a> {
    device: &'a str,
    dtype: &'a str,
    fallback_reason: Option<String>,
    device_bytes: usize,
    /// Whether the weights are kept packed.
    is_packed: bool,
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

    /// What opening the device would choose, without opening it.
    /// → `{device, dtype, fallback_reason, device_bytes, is_packed}`
    #[wasm_bindgen(js_name = expectedDevice)]
    pub fn expected_device(&self, request: &str, dtype: &str, adapter_json: Option<String>) -> JsResult<JsValue> {
        let adapter = adapter_info(adapter_json)?;
        let (request, dtype) = (Request::from_name(request)?, device::dtype_from_name(dtype)?);
        let (device, dtype, fallback_reason) = device::expected(request, dtype, adapter.as_ref())?;
        if device == "wasm" {
            device::check_memory(&self.config, dtype)?;
        }
        let device_bytes = packed::layout(&self.config, dtype)?.n_bytes;
        let is_packed = device == "wasm";
        to_js(&Expected { device, dtype: dtype.name(), fallback_reason, device_bytes, is_packed })
    }

    /// Opens the device (`"auto"`, `"webgpu"`, `"wasm"`); `adapter_json` is what the browser tells of its adapter, if
    /// it has one; `kernels` runs the model if it is to be the CPU.
    /// → the format of the weights if they are kept packed, else undefined
    #[wasm_bindgen(js_name = openDevice)]
    pub async fn open_device(
        &mut self,
        request: &str,
        dtype: &str,
        adapter_json: Option<String>,
        kernels: KernelModule,
    ) -> JsResult<Option<String>> {
        let adapter = adapter_info(adapter_json)?;
        let (request, dtype) = (Request::from_name(request)?, device::dtype_from_name(dtype)?);
        let chosen = device::open(request, dtype, adapter.as_ref(), &self.config).await?;
        let dtype = chosen.dtype;
        let (engine, self_test) = match &chosen.place {
            Place::Gpu(device, outcome) => {
                let stream = CheckpointStream::new(self.config.clone(), Tensors::new(device.clone()));
                (TargetEngine::Reference(stream), outcome.clone())
            }
            Place::Cpu => {
                let config = self_test::config()?;
                let (module, _) = Module::create(kernels, &config, dtype)?;
                let module = Rc::new(module);
                self_test::write(sink(&module, &config, dtype)?)?;
                let outcome = self_test::run(&Cpu::new(config, module.clone()), dtype).await?;
                // the same module, with the model itself in the place of the test's
                let js = Rc::try_unwrap(module).map_err(|_| Error::InvalidState("the kernels are in use".into()))?.js;
                let (module, _) = Module::create(js, &self.config, dtype)?;
                (TargetEngine::Cpu(Rc::new(module), None), outcome)
            }
        };
        let is_packed = matches!(engine, TargetEngine::Cpu(..));
        self.target = Some(Target { chosen, self_test, engine });
        Ok(is_packed.then(|| dtype.name().to_string()))
    }

    /// Bytes of the packed weights.
    #[wasm_bindgen(js_name = packedBytes)]
    pub fn packed_bytes(&self) -> JsResult<f64> {
        let dtype = self.target.as_ref().ok_or_else(no_device)?.chosen.dtype;
        Ok(packed::layout(&self.config, dtype)?.n_bytes as f64)
    }

    /// Begins one safetensors file of `n_bytes`, where that is known.
    #[wasm_bindgen(js_name = beginFile)]
    pub fn begin_file(&mut self, name: &str, n_bytes: Option<f64>) -> JsResult<()> {
        let n_bytes = n_bytes.map(|n| n as u64);
        let target = self.target.as_mut().ok_or_else(no_device)?;
        match &mut target.engine {
            TargetEngine::Reference(stream) => stream.begin_file(name, n_bytes)?,
            TargetEngine::Cpu(_, Some(stream)) => stream.begin_file(name, n_bytes)?,
            TargetEngine::Cpu(module, stream) => {
                let sink = sink(module, &self.config, target.chosen.dtype)?;
                stream.insert(CheckpointStream::new(self.config.clone(), sink)).begin_file(name, n_bytes)?;
            }
        }
        Ok(())
    }

    /// Takes the next bytes of that file.
    pub fn write(&mut self, bytes: &[u8]) -> JsResult<()> {
        match &mut self.target.as_mut().ok_or_else(no_device)?.engine {
            TargetEngine::Reference(stream) => stream.write(bytes)?,
            TargetEngine::Cpu(_, Some(stream)) => stream.write(bytes)?,
            TargetEngine::Cpu(..) => return Err(no_device()),
        }
        Ok(())
    }

    /// Ends the checkpoint, or takes the packed weights as they have been written, and makes the model.
    pub fn finish(self) -> JsResult<Model> {
        let Some(Target { chosen, self_test, engine }) = self.target else { return Err(no_device()) };
        let Some(tokenizer) = self.tokenizer else {
            return Err(Error::file("tokenizer.json", "a tokenizer", "none").into());
        };
        let engine = match engine {
            TargetEngine::Reference(stream) => Any::Reference(Reference::new(self.config, stream.finish()?)?),
            TargetEngine::Cpu(module, stream) => {
                if let Some(stream) = stream {
                    stream.finish()?;
                }
                Any::Cpu(Cpu::new(self.config, module))
            }
        };
        Ok(Model::new(engine, tokenizer, self.defaults, chosen, self_test))
    }
}

/// What packs a checkpoint into the kernels' memory.
fn sink(module: &Rc<Module>, config: &Config, dtype: Dtype) -> Result<Box<dyn Sink>> {
    let module = module.clone();
    let write = move |offset: usize, bytes: &[u8]| module.js.write(offset, bytes);
    Ok(Box::new(Packed::new(packed::layout(config, dtype)?, write)))
}

fn adapter_info(json: Option<String>) -> Result<Option<AdapterInfo>> {
    let wrong = |e: serde_json::Error| Error::invalid_option("adapter", "what GPUAdapterInfo has", e.to_string());
    json.map(|json| serde_json::from_str(&json).map_err(wrong)).transpose()
}

fn no_device() -> JsValue {
    Error::InvalidState("no device has been opened".into()).into()
}
