//! In a browser: the reference on WebGPU against transformers. (The CPU engine there is a module of its own, which
//! www/test/engine.test.mjs holds against the same answers.)
//!
//! WebGPU is whatever adapter the browser gives; in the tests that is SwiftShader, which is right and slow.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used)] // all of this file is a test

use std::rc::Rc;

use burn::tensor::Device;
use burn_wgpu::WgpuSetup;
use gpt2_web::Error;
use gpt2_web::checkpoint::{CheckpointReader, Config, Header, StoredDtype};
use gpt2_web::engine::ReferenceSink;
use gpt2_web::engine::gpu::{self, OpenGpu, Trial};
use gpt2_web::engine::{Engine, Reference, Rows};
use gpt2_web::sampler::argmax;
use gpt2_web::web::device::{self, AdapterInfo, Place, Request};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// Logits of a 32-bit engine; a GPU may fuse and reorder, which costs the last digits.
const TOLERANCE: f32 = 1e-4;

struct Golden {
    name: &'static str,
    config: &'static str,
    checkpoint: &'static [u8],
    expected: &'static str,
    logits: &'static [u8],
}

macro_rules! golden {
    ($name:literal) => {
        Golden {
            name: $name,
            config: include_str!(concat!("golden/models/", $name, "/config.json")),
            checkpoint: include_bytes!(concat!("golden/models/", $name, "/model.safetensors")),
            expected: include_str!(concat!("golden/models/", $name, "/expected.json")),
            logits: include_bytes!(concat!("golden/models/", $name, "/expected.safetensors")),
        }
    };
}

const MODELS: [Golden; 13] = [
    golden!("base"),
    golden!("untied"),
    golden!("f16"),
    golden!("bf16"),
    golden!("gelu"),
    golden!("silu"),
    golden!("quick_gelu"),
    golden!("inverse_layer"),
    golden!("relu"),
    golden!("tanh"),
    golden!("unscaled"),
    golden!("odd"),
    golden!("one"),
];

async fn burn_device() -> (Device, String) {
    gpt2_web::web::start(); // a test's module is not instantiated as the page's is
    let config = Config::from_json(MODELS[0].config).unwrap();
    let opened = device::open(Request::WebGpu, None, Some(&AdapterInfo::default()), &config).await.unwrap();
    assert_eq!(opened.chosen.place, Place::Gpu, "WebGPU was asked for by name");
    let loader = Rc::new(opened.gpu.unwrap());
    let outcome = Trial::new(loader, config.activation_function).await.unwrap().finish().await;
    (burn(gpu::open().await.unwrap()), outcome.unwrap())
}

/// Burn on the very device that the engine runs on.
fn burn(OpenGpu { instance, adapter, device, queue }: OpenGpu) -> Device {
    let setup = WgpuSetup { backend: adapter.get_info().backend, instance, adapter, device, queue };
    Device::wgpu_options().setup(setup).init().unwrap()
}

fn expected_logits(bytes: &[u8]) -> Vec<f32> {
    let n_json = Header::json_bytes(*bytes.first_chunk().unwrap(), "expected", None).unwrap();
    let header = Header::from_json(&bytes[8..8 + n_json], "expected", None).unwrap();
    let logits = header.tensors.iter().find(|t| t.name == "logits").unwrap();
    let mut values = Vec::new();
    StoredDtype::F32.extend_f32(&mut values, &bytes[8 + n_json..][logits.begin as usize..logits.end as usize]);
    values
}

fn ids(json: &serde_json::Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

async fn agrees_with_transformers(device: Device) {
    for golden in &MODELS {
        let config = Config::from_json(golden.config).unwrap();
        let mut stream = CheckpointReader::new(config.clone(), ReferenceSink::new(device.clone()));
        stream.begin_file("model.safetensors", None).unwrap();
        stream.write(golden.checkpoint).unwrap();
        let engine = Reference::new(config, stream.finish().unwrap().0.into_tensors()).unwrap();
        let answers: serde_json::Value = serde_json::from_str(golden.expected).unwrap();

        let prompt = ids(&answers["ids"]);
        let found = engine.forward(&mut engine.new_cache(), &prompt, Rows::All, false).await.unwrap().logits;
        let expected = expected_logits(golden.logits);
        assert_eq!(found.len(), expected.len(), "{}", golden.name);
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!((f - e).abs() <= TOLERANCE, "{}: logit {i}: expected {e}, found {f}", golden.name);
        }

        let (mut cache, mut next, mut greedy) = (engine.new_cache(), prompt, Vec::new());
        for _ in 0..answers["greedy"].as_array().unwrap().len() {
            let logits = engine.forward(&mut cache, &next, Rows::Last, false).await.unwrap().logits;
            next = vec![argmax(&logits).unwrap()];
            greedy.extend_from_slice(&next);
        }
        assert_eq!(greedy, ids(&answers["greedy"]), "{}", golden.name);
    }
}

#[wasm_bindgen_test]
async fn webgpu_agrees_with_transformers() {
    let (device, outcome) = burn_device().await;
    assert!(outcome.starts_with("passed"), "{outcome}");
    agrees_with_transformers(device).await;
}

#[wasm_bindgen_test]
async fn auto_never_takes_a_software_adapter() {
    gpt2_web::web::start();
    let config = Config::from_json(MODELS[0].config).unwrap();
    let software = AdapterInfo { vendor: "google".into(), is_software: true, ..Default::default() };
    let chosen = device::open(Request::Auto, None, Some(&software), &config).await.unwrap().chosen;
    assert_eq!(chosen.place.name(), "wasm");
    assert!(chosen.fallback_reason.unwrap().contains("software"));
    let error = device::open(Request::WebGpu, None, None, &config).await.err().unwrap();
    assert!(matches!(error, Error::WebGpuNotAvailable(_)));
}
