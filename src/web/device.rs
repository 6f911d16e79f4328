//! The choice between WebGPU and the CPU, and the reason for it.

use gpt2_kernels::Dtype;
use serde::Deserialize;

use crate::checkpoint::Config;
use crate::checkpoint::packing;
use crate::engine::gpu::{self, GpuLoader, OpenGpu};
use crate::error::{Error, Result};

/// The option `device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A real GPU if there is one that passes the self-test, else the CPU.
    Auto,
    /// WebGPU on whatever adapter there is, or an error.
    WebGpu,
    /// The CPU.
    Wasm,
}

impl Request {
    /// Reads the option `device`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for any other name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "webgpu" => Ok(Self::WebGpu),
            "wasm" => Ok(Self::Wasm),
            _ => Err(Error::invalid_option("device", "\"auto\", \"webgpu\" or \"wasm\"", format!("\"{name}\""))),
        }
    }
}

/// What a browser says about its GPU adapter (`GPUAdapterInfo`, `GPUSupportedLimits`), as www/src/engine/adapter.ts puts
/// it. Strings are empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdapterInfo {
    /// For example `nvidia`.
    pub vendor: String,
    /// For example `hopper`.
    pub architecture: String,
    /// The model's name or number.
    pub device: String,
    /// A description to be shown to users.
    pub description: String,
    /// Whether it is software that runs on the CPU.
    pub is_software: bool,
    /// What it takes at most.
    pub limits: AdapterLimits,
}

/// The limits of an adapter that decide whether a model can run there (`GPUSupportedLimits`); WebGPU's defaults where
/// nothing is said.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdapterLimits {
    /// Bytes of a buffer.
    pub max_buffer_size: u64,
    /// Bytes of a buffer that a shader sees at once.
    pub max_storage_buffer_binding_size: u64,
    /// Buffers that a shader sees at once.
    pub max_storage_buffers_per_shader_stage: u32,
}

impl Default for AdapterLimits {
    fn default() -> Self {
        Self {
            max_buffer_size: 256 << 20,
            max_storage_buffer_binding_size: 128 << 20,
            max_storage_buffers_per_shader_stage: 8,
        }
    }
}

impl AdapterLimits {
    /// Checks that a GPU of these limits takes a model.
    ///
    /// # Errors
    /// As [`gpu::check_limits`].
    #[cfg(feature = "full")]
    fn check(&self, config: &Config, dtype: Dtype) -> Result<()> {
        let limits = wgpu::Limits {
            max_buffer_size: self.max_buffer_size,
            max_storage_buffer_binding_size: self.max_storage_buffer_binding_size,
            max_storage_buffers_per_shader_stage: self.max_storage_buffers_per_shader_stage,
            ..wgpu::Limits::default()
        };
        gpu::check_limits(config, dtype, &limits).map(|_| ())
    }

    #[cfg(not(feature = "full"))]
    fn check(&self, _config: &Config, _dtype: Dtype) -> Result<()> {
        Err(Error::NotInThisBuild("the GPU engine"))
    }
}

impl AdapterInfo {
    /// One line to be shown to users.
    pub fn summary(&self) -> String {
        let parts = [&self.vendor, &self.architecture, &self.device, &self.description];
        let parts: Vec<&str> = parts.iter().map(|s| s.as_str()).filter(|s| !s.is_empty()).collect();
        if parts.is_empty() { "an adapter that does not say what it is".to_string() } else { parts.join(" ") }
    }
}

/// Where a model is going to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The kernels, on the CPU.
    Cpu,
    /// WebGPU.
    Gpu,
}

impl Place {
    /// Its name as a value of the option `device`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu => "wasm",
            Self::Gpu => "webgpu",
        }
    }
}

/// The device that was chosen, and why.
#[derive(Clone, Debug)]
pub struct DeviceChoice {
    /// Where the model is going to run.
    pub place: Place,
    /// The format of the weights there.
    pub dtype: Dtype,
    /// The GPU adapter in use.
    pub adapter: Option<String>,
    /// Why the GPU is not used, if the caller wanted it.
    pub fallback_reason: Option<String>,
}

/// A device that is open.
pub struct Opened {
    /// Which device, and why.
    pub chosen: DeviceChoice,
    /// On a GPU: the memory for the model's weights. [`Trial`](crate::engine::gpu::Trial) compiles and tests, while the
    /// weights arrive.
    pub gpu: Option<GpuLoader>,
}

/// Reads the option `dtype`; `None` is `auto`.
///
/// # Errors
/// [`Error::InvalidOption`] for any other name.
pub fn dtype_from_name(name: &str) -> Result<Option<Dtype>> {
    let wrong = || Error::invalid_option("dtype", r#""auto", "fp32", "fp16", "q8" or "q4""#, format!("\"{name}\""));
    if name == "auto" { Ok(None) } else { Dtype::from_name(name).map(Some).ok_or_else(wrong) }
}

/// The format of the weights in a place: the one asked for, or what is fastest there at no visible loss.
fn dtype_on(place: Place, dtype: Option<Dtype>) -> Dtype {
    dtype.unwrap_or(match place {
        Place::Cpu => Dtype::Q8,
        Place::Gpu => Dtype::Fp16,
    })
}

/// Why there is no GPU.
const NO_ADAPTER: &str = "this browser offers no WebGPU adapter";

/// Whether `auto` may use this adapter. → the reason if not
fn refusal(adapter: Option<&AdapterInfo>) -> Option<String> {
    match adapter {
        None => Some(NO_ADAPTER.to_string()),
        Some(adapter) if adapter.is_software => {
            Some(format!("{} is a software adapter, slower than the CPU engine", adapter.summary()))
        }
        Some(_) => None,
    }
}

/// What [`open`] is expected to choose, as far as it can be told without opening anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Where the model would run.
    pub place: Place,
    /// The format of the weights there.
    pub dtype: Dtype,
    /// Why it is not the GPU, if the caller wanted it.
    pub fallback_reason: Option<String>,
    /// Bytes of the weights there.
    pub n_bytes: u64,
    /// Why the model cannot run there either.
    pub problem: Option<Error>,
}

/// What [`open`] would choose. Opens nothing.
///
/// # Errors
/// [`Error::WebGpuNotAvailable`] if WebGPU is asked for by name and there is no adapter.
pub fn expected(
    request: Request,
    dtype: Option<Dtype>,
    adapter: Option<&AdapterInfo>,
    config: &Config,
) -> Result<Expected> {
    let on = |place: Place, fallback_reason| {
        let dtype = dtype_on(place, dtype);
        let n_bytes = packing::n_bytes(config, dtype);
        Expected { place, dtype, fallback_reason, n_bytes, problem: None }
    };
    let on_cpu = |fallback_reason| {
        let cpu = on(Place::Cpu, fallback_reason);
        Expected { problem: check_memory(config, cpu.dtype).err(), ..cpu }
    };
    let on_gpu = |adapter: &AdapterInfo| {
        let gpu = on(Place::Gpu, None);
        let problem = adapter.limits.check(config, gpu.dtype).err();
        Expected { problem, ..gpu }
    };
    match (request, adapter) {
        (Request::Wasm, _) => Ok(on_cpu(None)),
        (Request::WebGpu, Some(adapter)) => Ok(on_gpu(adapter)),
        (Request::WebGpu, None) => Err(Error::WebGpuNotAvailable(NO_ADAPTER.to_string())),
        (Request::Auto, adapter) => Ok(match (refusal(adapter), adapter.map(on_gpu)) {
            (None, Some(Expected { problem: Some(problem), .. })) => on_cpu(Some(problem.to_string())),
            (None, Some(gpu)) => gpu,
            (reason, _) => on_cpu(reason),
        }),
    }
}

/// Opens a device for a model of this configuration. If it is not the one that was asked for, the reason is in the
/// result.
///
/// # Errors
/// If WebGPU was asked for by name: [`Error::WebGpuNotAvailable`] if it cannot be had or cannot bind the model,
/// [`Error::GpuOutOfMemory`] if it has no room. Else [`Error::ModelTooLarge`].
pub async fn open(
    request: Request,
    dtype: Option<Dtype>,
    adapter: Option<&AdapterInfo>,
    config: &Config,
) -> Result<Opened> {
    let fallback_reason = match request {
        Request::Wasm => None,
        Request::Auto => match refusal(adapter) {
            Some(reason) => Some(reason),
            None => match open_gpu(dtype, adapter, config).await {
                Ok(opened) => return Ok(opened),
                Err(error) => Some(error.to_string()),
            },
        },
        Request::WebGpu => return open_gpu(dtype, adapter, config).await,
    };
    let dtype = dtype_on(Place::Cpu, dtype);
    check_memory(config, dtype)?;
    Ok(Opened { chosen: DeviceChoice { place: Place::Cpu, dtype, adapter: None, fallback_reason }, gpu: None })
}

/// Most bytes that the CPU engine's weights may take: they are one allocation, and 32-bit WebAssembly makes none of more
/// than `isize::MAX` bytes. The allocator keeps a little of that for itself.
const MAX_IMAGE_BYTES: u64 = i32::MAX as u64 - (1 << 16);

/// Checks that the CPU engine can hold the model's weights, so that a model that cannot run is not downloaded.
///
/// # Errors
/// [`Error::ModelTooLarge`] with their size, what can be had, and the format that would fit.
pub fn check_memory(config: &Config, dtype: Dtype) -> Result<()> {
    let n_bytes = packing::n_bytes(config, dtype);
    if n_bytes <= MAX_IMAGE_BYTES {
        return Ok(());
    }
    let mut from_most_accurate = [Dtype::Fp32, Dtype::Fp16, Dtype::Q8, Dtype::Q4].into_iter();
    let instead = from_most_accurate.find(|&dtype| packing::n_bytes(config, dtype) <= MAX_IMAGE_BYTES);
    Err(Error::ModelTooLarge {
        dtype: dtype.name().to_string(),
        n_bytes,
        max_bytes: MAX_IMAGE_BYTES,
        instead: instead.map(|dtype| dtype.name().to_string()),
    })
}

async fn open_gpu(dtype: Option<Dtype>, adapter: Option<&AdapterInfo>, config: &Config) -> Result<Opened> {
    let Some(adapter) = adapter else {
        return Err(Error::WebGpuNotAvailable(NO_ADAPTER.to_string()));
    };
    let dtype = dtype_on(Place::Gpu, dtype);
    adapter.limits.check(config, dtype)?; // opens nothing for a model that cannot run there
    let OpenGpu { device, queue, .. } = gpu::open().await?;
    let loader = GpuLoader::new(device, queue, config.clone(), dtype).await?;
    let chosen = DeviceChoice { place: Place::Gpu, dtype, adapter: Some(adapter.summary()), fallback_reason: None };
    Ok(Opened { chosen, gpu: Some(loader) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(vendor: &str, architecture: &str, description: &str) -> AdapterInfo {
        AdapterInfo {
            vendor: vendor.into(),
            architecture: architecture.into(),
            description: description.into(),
            ..Default::default()
        }
    }

    fn software() -> AdapterInfo {
        AdapterInfo { is_software: true, ..adapter("google", "swiftshader", "") }
    }

    #[test]
    fn software_is_refused() {
        assert!(refusal(Some(&software())).unwrap().contains("google swiftshader is a software"));
        for real in [adapter("nvidia", "hopper", ""), adapter("apple", "metal-3", ""), adapter("", "", "")] {
            assert!(refusal(Some(&real)).is_none(), "{real:?}");
        }
        assert!(refusal(None).unwrap().contains("no WebGPU adapter"));
    }

    #[test]
    fn limits_that_are_not_told_are_webgpus_defaults() {
        let AdapterLimits { max_buffer_size, max_storage_buffer_binding_size, max_storage_buffers_per_shader_stage } =
            AdapterLimits::default();
        let limits = wgpu::Limits::default();
        assert_eq!(max_buffer_size, limits.max_buffer_size);
        assert_eq!(max_storage_buffer_binding_size, limits.max_storage_buffer_binding_size);
        assert_eq!(max_storage_buffers_per_shader_stage, limits.max_storage_buffers_per_shader_stage);
    }

    #[test]
    fn the_cpu_is_chosen_with_a_reason() {
        let config = Config::from_json(r#"{"model_type":"gpt2"}"#).unwrap();
        let open = |request, adapter: Option<&AdapterInfo>| {
            pollster::block_on(open(request, None, adapter, &config)).map(|opened| opened.chosen)
        };
        let auto = open(Request::Auto, Some(&software())).unwrap();
        assert_eq!((auto.place.name(), auto.dtype), ("wasm", Dtype::Q8));
        assert!(auto.fallback_reason.unwrap().contains("swiftshader"));
        assert_eq!(open(Request::WebGpu, None).unwrap_err().code(), "webgpu_not_available");
        assert_eq!(open(Request::Wasm, None).unwrap().fallback_reason, None);
        assert!(Request::from_name("gpu").is_err());
        assert!(dtype_from_name("int8").is_err());
    }

    fn sized(n_embd: usize, n_layer: usize) -> Config {
        let json = format!(r#"{{"model_type":"gpt2","n_embd":{n_embd},"n_head":25,"n_layer":{n_layer}}}"#);
        Config::from_json(&json).unwrap()
    }

    #[test]
    fn what_is_expected_is_what_happens() {
        let gpt2 = Config::from_json(r#"{"model_type":"gpt2"}"#).unwrap();
        let expected = |request, dtype, adapter: Option<&AdapterInfo>| {
            expected(request, dtype, adapter, &gpt2).map(|e| (e.place.name(), e.dtype, e.fallback_reason, e.problem))
        };
        let software = software();
        let apple = adapter("apple", "", "");
        assert_eq!(expected(Request::Auto, None, Some(&software)).unwrap().0, "wasm");
        assert_eq!(expected(Request::Auto, None, Some(&apple)).unwrap(), ("webgpu", Dtype::Fp16, None, None));
        assert_eq!(expected(Request::WebGpu, None, Some(&software)).unwrap().0, "webgpu");
        assert!(expected(Request::WebGpu, None, None).is_err());
        assert_eq!(expected(Request::Wasm, Some(Dtype::Q4), None).unwrap(), ("wasm", Dtype::Q4, None, None));

        // adapters that say what they take
        let with = |json: &str| serde_json::from_str::<AdapterInfo>(json).unwrap();
        let few = with(r#"{"vendor":"acme","limits":{"max_storage_buffers_per_shader_stage":4}}"#);
        let (place, dtype, reason, problem) = expected(Request::Auto, None, Some(&few)).unwrap();
        assert_eq!((place, dtype, problem), ("wasm", Dtype::Q8, None));
        assert!(reason.unwrap().contains("at most 4"));
        let small = with(r#"{"limits":{"max_storage_buffer_binding_size":8388608}}"#);
        let (place, _, reason, _) = expected(Request::Auto, None, Some(&small)).unwrap();
        assert_eq!(place, "wasm");
        assert!(reason.unwrap().contains("wte"), "it names what is too large");
        let (place, _, _, problem) = expected(Request::WebGpu, None, Some(&small)).unwrap();
        assert_eq!((place, problem.unwrap().code()), ("webgpu", "webgpu_not_available"));
        let small = with(r#"{"limits":{"max_buffer_size":4194304}}"#);
        assert_eq!(expected(Request::Auto, None, Some(&small)).unwrap().0, "wasm");
    }

    #[test]
    fn what_cannot_be_one_allocation_is_refused_before_it_is_fetched() {
        let xl = sized(1600, 48);
        for (dtype, size) in [(Dtype::Fp32, "6"), (Dtype::Fp16, "3")] {
            let error = check_memory(&xl, dtype).unwrap_err();
            assert_eq!(error.code(), "out_of_memory");
            let message = error.to_string();
            assert!(message.contains(&format!("takes {size}")) && message.contains(r#"dtype "q8" fits"#), "{message}");
            let expected = expected(Request::Wasm, Some(dtype), None, &xl).unwrap();
            assert_eq!((expected.place, expected.problem), (Place::Cpu, Some(error)));
        }
        for dtype in [Dtype::Q8, Dtype::Q4] {
            check_memory(&xl, dtype).unwrap();
        }
        let message = check_memory(&sized(6400, 48), Dtype::Q8).unwrap_err().to_string();
        assert!(message.contains("fits in no dtype"), "{message}");
        // a GPU takes it in pieces
        let real = adapter("apple", "", "");
        let expected = expected(Request::Auto, None, Some(&real), &xl).unwrap();
        assert_eq!((expected.place, expected.dtype, expected.problem), (Place::Gpu, Dtype::Fp16, None));
    }
}
