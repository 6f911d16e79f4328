//! A device with WebGPU's default limits, and models on it.

use std::path::{Path, PathBuf};

use gpt2_kernels::pack::Packer;
use gpt2_kernels::{Dtype, Layout};
use gpt2_web::checkpoint::{Config, Header, StoredDtype, TensorInfo, names};
use gpt2_web::engine::Engine;
use gpt2_web::engine::gpu::{GpuCache, GpuEngine, GpuLoader, Tuning};
use pollster::block_on;

/// A device of the machine's first adapter, a software one if there is no other (Mesa's lavapipe will do).
///
/// `None` where there is none at all, which is a reason to fail in CI and to skip elsewhere.
pub fn device() -> Option<(wgpu::Device, wgpu::Queue)> {
    device_with(wgpu::Limits::default())
}

pub fn device_with(required_limits: wgpu::Limits) -> Option<(wgpu::Device, wgpu::Queue)> {
    device_that(required_limits, wgpu::Features::empty())
}

/// With those of the features that the adapter has.
pub fn device_that(required_limits: wgpu::Limits, wanted: wgpu::Features) -> Option<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::default();
    let Ok(adapter) = block_on(instance.request_adapter(&Default::default())) else {
        assert!(!is_ci(), "no GPU adapter; install Mesa's software one (mesa-vulkan-drivers)");
        eprintln!("SKIPPED: no GPU adapter");
        return None;
    };
    let required_features = adapter.features() & wanted;
    let descriptor = wgpu::DeviceDescriptor { required_limits, required_features, ..Default::default() };
    Some(block_on(adapter.request_device(&descriptor)).expect("device"))
}

/// `None` where the adapter lacks one of these features, which Mesa's software one has.
pub fn device_having(features: wgpu::Features) -> Option<(wgpu::Device, wgpu::Queue)> {
    let device = device_that(wgpu::Limits::default(), features)?;
    let has = device.0.features().contains(features);
    assert!(has || !is_ci(), "this adapter lacks {features:?}");
    if !has {
        eprintln!("SKIPPED: this adapter lacks {features:?}");
    }
    has.then_some(device)
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some()
}

pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
}

pub fn ids(json: &serde_json::Value) -> Vec<u32> {
    json.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// The tensors of a safetensors file as f32, by canonical name.
pub fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let n_json = Header::json_bytes(*bytes.first_chunk().expect("8 bytes"), "file", None).expect("length");
    let (json, body) = bytes[8..].split_at(n_json);
    let header = Header::from_json(json, "file", Some(bytes.len() as u64)).expect("header");
    let read = |t: TensorInfo| {
        let mut values = Vec::new();
        let dtype = StoredDtype::from_name(&t.dtype)?; // older checkpoints carry a mask of bytes
        dtype.extend_f32(&mut values, &body[t.begin as usize..t.end as usize]);
        Some((names::canonical(&t.name).to_string(), values))
    };
    header.tensors.into_iter().filter_map(read).collect()
}

/// A checkpoint packed: configuration, layout and image.
pub struct Packed {
    pub config: Config,
    pub layout: Layout,
    pub image: Vec<u8>,
}

impl Packed {
    pub fn from_tensors(config: Config, dtype: Dtype, tensors: impl IntoIterator<Item = (String, Vec<f32>)>) -> Self {
        let layout = Layout::new(&config.dims(), dtype).expect("layout");
        let mut image = vec![0; layout.n_bytes];
        let mut packer = Packer::new(layout.clone());
        let mut write = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        for (name, values) in tensors {
            if packer.begin(&name).expect("room") {
                packer.values(&values, &mut write);
                packer.end(&mut write);
            }
        }
        Self { config, layout, image }
    }

    /// One of the golden models.
    pub fn golden(name: &str, dtype: Dtype) -> Self {
        Self::folder(&golden(&format!("models/{name}")), dtype)
    }

    pub fn folder(folder: &Path, dtype: Dtype) -> Self {
        let config = std::fs::read_to_string(folder.join("config.json")).expect("config");
        let files = std::fs::read_dir(folder).expect("folder").map(|f| f.expect("file").path());
        let is_part = |p: &PathBuf| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("model") && name.ends_with(".safetensors")
        };
        let tensors: Vec<_> = files.filter(is_part).flat_map(|p| tensors(&p)).collect();
        Self::from_tensors(Config::from_json(&config).expect("config"), dtype, tensors)
    }

    /// Random weights of the size that training gives: reproducible, and different in every element.
    pub fn random(config: Config, dtype: Dtype) -> Self {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut tensor = |(name, shape): (String, Vec<usize>)| {
            let (size, shift) = match name.as_str() {
                n if n.contains("ln_") && n.ends_with("weight") => (0.2, 1.0),
                "wte.weight" | "lm_head.weight" => (0.5, 0.0),
                n if n.ends_with("weight") => (1.5 / (shape[0] as f32).sqrt(), 0.0),
                _ => (0.1, 0.0),
            };
            let values = (0..shape.iter().product()).map(|_| uniform() * size + shift).collect();
            (name, values)
        };
        let tensors = names::expected_tensors(&config).into_iter().map(&mut tensor); // one at a time: XL's take 6 GB
        Self::from_tensors(config, dtype, tensors)
    }

    /// On a device of its own.
    pub fn gpu(&self) -> Option<GpuEngine> {
        device().map(|device| self.on(device))
    }

    pub fn on(&self, device: (wgpu::Device, wgpu::Queue)) -> GpuEngine {
        self.tuned(device, Tuning::default())
    }

    pub fn tuned(&self, device: (wgpu::Device, wgpu::Queue), tuning: Tuning) -> GpuEngine {
        let loader = self.loader(device);
        block_on(loader.prepare(tuning)).expect("tuning");
        block_on(loader.finish()).expect("engine")
    }

    /// The weights on the device, and nothing compiled.
    pub fn loader(&self, (device, queue): (wgpu::Device, wgpu::Queue)) -> GpuLoader {
        let loading = GpuLoader::new(device, queue, self.config.clone(), self.layout.dtype);
        let loader = block_on(loading).expect("loader");
        for (i, piece) in self.image.chunks(1 << 20).enumerate() {
            loader.write(i << 20, piece).expect("write");
        }
        loader
    }
}

/// An empty cache with room for so many tokens.
pub fn cache_for(gpu: &GpuEngine, n_tokens: usize) -> GpuCache {
    let mut cache = gpu.new_cache();
    block_on(gpu.make_room(&mut cache, n_tokens)).expect("room");
    cache
}

/// Milliseconds.
pub fn now_ms() -> f64 {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    ORIGIN.get_or_init(std::time::Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Panics unless all values are within `tolerance`; names the worst. → the largest difference
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let off = |i: usize| {
        let difference = (found[i] - expected[i]).abs();
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    let worst = (0..found.len()).max_by(|&a, &b| off(a).total_cmp(&off(b)));
    let Some(i) = worst else { return 0.0 };
    assert!(
        off(i) <= tolerance,
        "{what}: value {i}: expected {}, found {}, tolerance {tolerance}",
        expected[i],
        found[i]
    );
    off(i)
}
