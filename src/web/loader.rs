//! Loading, for JavaScript: configuration, tokenizer, device, then weights, packed already or not yet.

use std::rc::Rc;

use gpt2_kernels::Dtype;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::any_engine::AnyEngine;
use super::device::{self, AdapterInfo, DeviceChoice, Opened, Request};
use super::js::{JsResult, now_ms, to_js};
use super::kernels::{KernelModule, Module};
use super::model::Model;
#[cfg(feature = "full")]
use super::pipelines::compile_ahead;
use crate::checkpoint::{CheckpointReader, Config, PackingSink, TensorSink, WEIGHT_FILES, index, packing};
use crate::engine::gpu::{self, BringUpStep, GpuLoader, Trial, TuningSource};
use crate::engine::{CpuEngine, self_test};
use crate::error::{Error, Result};
use crate::generate::GenerateOptions;
use crate::tokenizer::{self, Tokenizer, TokenizerFiles};

/// Names of the files that may hold a checkpoint's weights, or the index of its shards, in the order to look for them.
#[wasm_bindgen(js_name = weightFiles)]
pub fn weight_files() -> Vec<String> {
    WEIGHT_FILES.map(str::to_string).to_vec()
}

/// Names of the files that may make a tokenizer, in the order to ask for them.
#[wasm_bindgen(js_name = tokenizerFiles)]
pub fn tokenizer_files() -> Vec<String> {
    tokenizer::FILES.map(str::to_string).to_vec()
}

/// Names of the shards in an index of this name.
#[wasm_bindgen(js_name = shardNames)]
pub fn shard_names(index_name: &str, index_json: &str) -> JsResult<Vec<String>> {
    Ok(index::shard_names(index_name, index_json)?)
}

/// Returns all memory of the GPU; a model that was there is lost, and the next loader opens another.
#[wasm_bindgen(js_name = destroyGpu)]
pub fn destroy_gpu() {
    gpu::destroy();
}

/// Under which name packed weights of a format are kept.
#[wasm_bindgen(js_name = packedName)]
pub fn packed_name(dtype: &str, is_untied: bool) -> String {
    packing::packed_name(dtype, is_untied)
}

/// Loads a model.
#[wasm_bindgen]
pub struct Loader {
    config: Config,
    defaults: GenerateOptions,
    /// The tokenizer's files, until it is built.
    tokenizer_files: TokenizerFiles,
    tokenizer: Option<Tokenizer>,
    target: Option<Target>,
    /// What of the files is left out or replaced, one sentence each.
    warnings: Vec<String>,
}

/// Where the weights go.
struct Target {
    chosen: DeviceChoice,
    verdict: Verdict,
    image: Image,
    /// Under which name what is measured on this GPU may be remembered.
    tuning_key: Option<String>,
    /// Packs a checkpoint, from its first byte on.
    stream: Option<CheckpointReader<Box<dyn TensorSink>>>,
}

/// What the self-test says of the place.
enum Verdict {
    Passed(String),
    /// It is under way.
    Awaited(Rc<Trial>),
}

/// The packed weights in the engine's memory.
#[derive(Clone)]
enum Image {
    Cpu(Rc<Module>),
    Gpu(Rc<GpuLoader>),
}

impl Image {
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Cpu(module) => {
                module.js.write(offset, bytes);
                Ok(())
            }
            Self::Gpu(loader) => loader.write(offset, bytes),
        }
    }

    /// What packs a checkpoint into it.
    fn sink(&self, config: &Config, dtype: Dtype) -> Result<Box<dyn TensorSink>> {
        let image = self.clone();
        let write = move |offset: usize, bytes: &[u8]| image.write(offset, bytes);
        Ok(Box::new(PackingSink::new(packing::layout(config, dtype)?, write)))
    }
}

#[derive(Serialize)]
struct Expected<'a> {
    device: &'a str,
    dtype: &'a str,
    fallback_reason: Option<String>,
    device_bytes: u64,
    problem: Option<String>,
}

#[wasm_bindgen]
impl Loader {
    /// Begins with the text of `config.json` and, if there is one, of `generation_config.json`.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str, generation_config_json: Option<String>) -> JsResult<Loader> {
        let (config, mut warnings) = Config::read(config_json)?;
        let (defaults, of_generation) = match &generation_config_json {
            Some(text) => GenerateOptions::defaults(&config, Some(text)),
            None => GenerateOptions::defaults_in_config(&config, config_json),
        };
        warnings.extend(of_generation);
        let mut tokenizer_files = TokenizerFiles::default();
        tokenizer_files.set("config.json", config_json.as_bytes().to_vec())?;
        Ok(Loader { config, defaults, tokenizer_files, tokenizer: None, target: None, warnings })
    }

    /// Treats the head as a matrix of its own although `config.json` says that it is the embedding: for a checkpoint whose
    /// two differ, which [`finish`](Self::finish) refuses with the code `untied_head`. To be called before the device is
    /// opened.
    pub fn untie(&mut self) {
        self.config = self.config.untied();
        self.warnings.push(
            "config.json ties the head to the embedding, but the checkpoint has a head that differs: they are kept apart"
                .into(),
        );
    }

    /// What of the files is left out or replaced, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Whether one of the tokenizer's files may still make a difference, given those that have been taken.
    #[wasm_bindgen(js_name = wantsTokenizerFile)]
    pub fn wants_tokenizer_file(&self, name: &str) -> bool {
        self.tokenizer_files.is_wanted(name)
    }

    /// Takes one of the tokenizer's files.
    #[wasm_bindgen(js_name = tokenizerFile)]
    pub fn tokenizer_file(&mut self, name: &str, bytes: Vec<u8>) -> JsResult<()> {
        Ok(self.tokenizer_files.set(name, bytes)?)
    }

    /// Builds the tokenizer from the files that have been taken.
    #[wasm_bindgen(js_name = buildTokenizer)]
    pub fn build_tokenizer(&mut self) -> JsResult<()> {
        let (tokenizer, warnings) = Tokenizer::from_files(std::mem::take(&mut self.tokenizer_files))?;
        self.tokenizer = Some(tokenizer);
        self.warnings.extend(warnings);
        Ok(())
    }

    /// What opening the device would choose, without opening it; `problem` says why the model could not run there.
    /// → `{device, dtype, fallback_reason, device_bytes, problem}`
    #[wasm_bindgen(js_name = expectedDevice)]
    pub fn expected_device(&self, request: &str, dtype: &str, adapter_json: Option<String>) -> JsResult<JsValue> {
        let adapter = adapter_info(adapter_json)?;
        let (request, dtype) = (Request::from_name(request)?, device::dtype_from_name(dtype)?);
        let expected = device::expected(request, dtype, adapter.as_ref(), &self.config)?;
        to_js(&Expected {
            device: expected.place.name(),
            dtype: expected.dtype.name(),
            fallback_reason: expected.fallback_reason,
            device_bytes: expected.n_bytes,
            problem: expected.problem.map(|e| e.to_string()),
        })
    }

    /// Opens the device (`"auto"`, `"webgpu"`, `"wasm"`); `adapter_json` is what the browser tells of its adapter, if
    /// it has one; `kernels` runs the model if it is to be the CPU, which is tested here. → the format of the weights
    #[wasm_bindgen(js_name = openDevice)]
    pub async fn open_device(
        &mut self,
        request: &str,
        dtype: &str,
        adapter_json: Option<String>,
        kernels: KernelModule,
    ) -> JsResult<String> {
        let adapter = adapter_info(adapter_json)?;
        let (request, dtype) = (Request::from_name(request)?, device::dtype_from_name(dtype)?);
        let Opened { chosen, gpu } = device::open(request, dtype, adapter.as_ref(), &self.config).await?;
        let dtype = chosen.dtype;
        let mut tuning_key = None;
        let (image, verdict) = match gpu {
            Some(loader) => {
                let loader = Rc::new(loader);
                // a software adapter's speed is the CPU's, and differs from one moment to the next
                let adapter = adapter.filter(|adapter| !adapter.is_software);
                tuning_key = adapter.map(|adapter| format!("{} {}", adapter.summary(), loader.tuning_key()));
                #[cfg(feature = "full")]
                loader.set_compile_ahead(compile_ahead);
                let trial = Trial::new(loader.clone(), self.config.activation_function).await?;
                (Image::Gpu(loader), Verdict::Awaited(Rc::new(trial)))
            }
            None => {
                let config = self_test::config(self.config.activation_function)?;
                let module = Rc::new(Module::create(kernels, &config, dtype)?);
                self_test::write(Image::Cpu(module.clone()).sink(&config, dtype)?)?;
                let outcome = self_test::run(&CpuEngine::new(config, module.clone()), dtype).await?;
                // the same module, with the model itself in the place of the test's
                let module = Rc::new(Module::create(only(module)?.js, &self.config, dtype)?);
                (Image::Cpu(module), Verdict::Passed(outcome))
            }
        };
        self.target = Some(Target { chosen, verdict, image, tuning_key, stream: None });
        Ok(dtype.name().to_string())
    }

    /// Under which name the GPU's tuning is remembered; `undefined` where nothing is measured.
    #[wasm_bindgen(js_name = tuningKey)]
    pub fn tuning_key(&self) -> JsResult<Option<String>> {
        Ok(self.target.as_ref().ok_or_else(no_device)?.tuning_key.clone())
    }

    /// What the GPU has to compile and pass before [`finish`](Self::finish), to be done while the weights arrive;
    /// `undefined` on the CPU. `tuning` is what is remembered under the key, if something is: whatever else it may be
    /// counts for nothing.
    pub fn compiling(&self, tuning: Option<String>) -> JsResult<Option<Compiling>> {
        let target = self.target.as_ref().ok_or_else(no_device)?;
        let Verdict::Awaited(trial) = &target.verdict else { return Ok(None) };
        let remembered = match (&target.image, &tuning) {
            (Image::Gpu(loader), Some(json)) => loader.remembered(json),
            _ => None,
        };
        match remembered {
            Some(tuning) => trial.set_tuning(TuningSource::Known(tuning)),
            None if target.tuning_key.is_some() => trial.set_tuning(TuningSource::Measured(now_ms)),
            None => {}
        }
        Ok(Some(Compiling(trial.clone())))
    }

    /// `"webgpu"` or `"wasm"`, once it is open.
    #[wasm_bindgen(getter)]
    pub fn device(&self) -> JsResult<String> {
        Ok(self.target.as_ref().ok_or_else(no_device)?.chosen.place.name().to_string())
    }

    /// Bytes of the packed weights.
    #[wasm_bindgen(js_name = packedBytes)]
    pub fn packed_bytes(&self) -> JsResult<f64> {
        let dtype = self.target.as_ref().ok_or_else(no_device)?.chosen.dtype;
        Ok(packing::layout(&self.config, dtype)?.n_bytes as f64)
    }

    /// Writes weights that are packed already.
    #[wasm_bindgen(js_name = writePacked)]
    pub fn write_packed(&self, offset: usize, bytes: &[u8]) -> JsResult<()> {
        Ok(self.target.as_ref().ok_or_else(no_device)?.image.write(offset, bytes)?)
    }

    /// Begins one file of weights, of `n_bytes` where that is known.
    #[wasm_bindgen(js_name = beginFile)]
    pub fn begin_file(&mut self, name: &str, n_bytes: Option<f64>) -> JsResult<()> {
        let Target { chosen, image, stream, .. } = self.target.as_mut().ok_or_else(no_device)?;
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let sink = image.sink(&self.config, chosen.dtype)?;
                stream.insert(CheckpointReader::new(self.config.clone(), sink))
            }
        };
        Ok(stream.begin_file(name, n_bytes.map(|n| n as u64))?)
    }

    /// Takes the next bytes of that file.
    pub fn write(&mut self, bytes: &[u8]) -> JsResult<()> {
        let stream = self.target.as_mut().and_then(|target| target.stream.as_mut());
        Ok(stream.ok_or_else(no_device)?.write(bytes)?)
    }

    /// Ends the checkpoint, or takes the packed weights as they have been written, and makes the model.
    pub async fn finish(self) -> JsResult<Model> {
        let mut warnings = self.warnings;
        let Some(Target { chosen, verdict, image, stream, .. }) = self.target else { return Err(no_device()) };
        let Some(tokenizer) = self.tokenizer else {
            return Err(Error::file("tokenizer.json", "a tokenizer", "none").into());
        };
        if let Some(stream) = stream {
            let (_, of_weights) = stream.finish()?;
            warnings.extend(of_weights);
        }
        let self_test = match verdict {
            Verdict::Passed(outcome) => outcome,
            Verdict::Awaited(trial) => trial.finish().await?,
        };
        let engine = match image {
            Image::Cpu(module) => AnyEngine::Cpu(CpuEngine::new(self.config, module)),
            Image::Gpu(loader) => {
                let engine = only(loader)?.finish().await?;
                engine.set_clock(now_ms);
                engine.warm_up().await?; // the first token does not wait for a driver that compiles late
                AnyEngine::Gpu(engine)
            }
        };
        Ok(Model::new(engine, tokenizer, self.defaults, chosen, self_test, warnings))
    }
}

/// A GPU that is compiling. Lives beside its loader, so that weights can be written meanwhile.
#[wasm_bindgen]
pub struct Compiling(Rc<Trial>);

#[wasm_bindgen]
impl Compiling {
    /// How many pipelines are left to compile; known after the first step.
    #[wasm_bindgen(getter)]
    pub fn left(&self) -> usize {
        self.0.n_pipelines_left()
    }

    /// What was measured, to be remembered; `undefined` if nothing was.
    #[wasm_bindgen(getter)]
    pub fn tuning(&self) -> Option<String> {
        self.0.found().map(|tuning| tuning.to_json())
    }

    /// Waits for the next step. → `"tune"`: it is known what there is to compile, which comes first; `"compile"`:
    /// another pipeline is ready; `"self-test"`: the test has passed; or `undefined` if nothing was left to do
    pub async fn next(&self) -> JsResult<Option<String>> {
        let name = |step| match step {
            BringUpStep::Tuned => "tune",
            BringUpStep::Compiled => "compile",
            BringUpStep::Tested => "self-test",
        };
        Ok(self.0.next().await?.map(|step| name(step).to_string()))
    }
}

/// What nobody else holds any more.
fn only<T>(shared: Rc<T>) -> Result<T> {
    Rc::try_unwrap(shared).map_err(|_| Error::InvalidState("the loader is still in use".into()))
}

fn adapter_info(json: Option<String>) -> Result<Option<AdapterInfo>> {
    let wrong = |e: serde_json::Error| Error::invalid_option("adapter", "what GPUAdapterInfo has", e.to_string());
    json.map(|json| serde_json::from_str(&json).map_err(wrong)).transpose()
}

fn no_device() -> JsValue {
    Error::InvalidState("no device has been opened".into()).into()
}
