//! The choice between WebGPU and the CPU, and the reason for it.

use gpt2_kernels::Dtype;
use serde::Deserialize;

use crate::checkpoint::Config;
use crate::checkpoint::packing::{layout, out_of_memory};
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

/// What a browser says about its GPU adapter (`GPUAdapterInfo`). Strings are empty where it says nothing.
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
    /// Whether the browser calls it a fallback: a software adapter.
    pub is_fallback: bool,
}

impl AdapterInfo {
    /// One line to be shown to users.
    pub fn summary(&self) -> String {
        let parts = [&self.vendor, &self.architecture, &self.device, &self.description];
        let parts: Vec<&str> = parts.iter().map(|s| s.as_str()).filter(|s| !s.is_empty()).collect();
        if parts.is_empty() { "an adapter that does not say what it is".to_string() } else { parts.join(" ") }
    }

    /// Whether this adapter is software that runs on the CPU.
    pub fn is_software(&self) -> bool {
        const SOFTWARE: [&str; 6] = ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render", "warp"];
        let summary = self.summary().to_lowercase();
        self.is_fallback
            || SOFTWARE
                .iter()
                .any(|name| summary.split(|c: char| !c.is_alphanumeric() && c != ' ').any(|part| part.contains(name)))
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

/// The format of the weights on a device of that name: the one asked for, or what is fastest there at no visible loss.
fn dtype_on(device: &str, dtype: Option<Dtype>) -> Dtype {
    dtype.unwrap_or(if device == "wasm" { Dtype::Q8 } else { Dtype::Fp16 })
}

/// Whether `auto` may use this adapter. → the reason if not
fn refusal(adapter: Option<&AdapterInfo>) -> Option<String> {
    match adapter {
        None => Some("this browser offers no WebGPU adapter".to_string()),
        Some(adapter) if adapter.is_software() => {
            Some(format!("{} is a software adapter, slower than the CPU engine", adapter.summary()))
        }
        Some(_) => None,
    }
}

/// What [`open`] would try first. Opens nothing. → the device's name, the format of the weights, and why it is not the
/// GPU
///
/// # Errors
/// [`Error::WebGpuNotAvailable`] if WebGPU is asked for by name and there is no adapter.
pub fn expected(
    request: Request,
    dtype: Option<Dtype>,
    adapter: Option<&AdapterInfo>,
) -> Result<(&'static str, Dtype, Option<String>)> {
    let (name, reason) = match (request, refusal(adapter)) {
        (Request::Wasm, _) => ("wasm", None),
        (Request::Auto, Some(reason)) => ("wasm", Some(reason)),
        (Request::WebGpu, Some(reason)) if adapter.is_none() => return Err(Error::WebGpuNotAvailable(reason)),
        (Request::Auto | Request::WebGpu, _) => ("webgpu", None),
    };
    Ok((name, dtype_on(name, dtype), reason))
}

/// Opens a device for a model of this configuration. If it is not the one that was asked for, the reason is in the
/// result.
///
/// # Errors
/// [`Error::WebGpuNotAvailable`] if WebGPU was asked for by name and cannot be had or cannot hold the model;
/// [`Error::OutOfMemory`].
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
    let dtype = dtype_on("wasm", dtype);
    check_memory(config, dtype)?;
    Ok(Opened { chosen: DeviceChoice { place: Place::Cpu, dtype, adapter: None, fallback_reason }, gpu: None })
}

/// Checks that the model's weights fit a 32-bit address space, so that a model that cannot run is not downloaded.
///
/// # Errors
/// [`Error::OutOfMemory`] with their size.
pub fn check_memory(config: &Config, dtype: Dtype) -> Result<()> {
    /// Room for everything else: caches, and the intermediate results of a pass.
    const SPARE_BYTES: usize = 256 << 20;
    match layout(config, dtype)?.n_bytes > (u32::MAX as usize) - SPARE_BYTES {
        true => Err(out_of_memory(config, dtype)),
        false => Ok(()),
    }
}

async fn open_gpu(dtype: Option<Dtype>, adapter: Option<&AdapterInfo>, config: &Config) -> Result<Opened> {
    let Some(adapter) = adapter else {
        return Err(Error::WebGpuNotAvailable("this browser offers no WebGPU adapter".into()));
    };
    let dtype = dtype_on("webgpu", dtype);
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

    #[test]
    fn software_adapters_are_known() {
        for software in [
            adapter("google", "swiftshader", ""),
            adapter("mesa", "", "llvmpipe (LLVM 15.0.6, 256 bits)"),
            adapter("microsoft", "", "Microsoft Basic Render Driver"),
            AdapterInfo { is_fallback: true, ..adapter("x", "", "") },
        ] {
            assert!(software.is_software(), "{software:?}");
            assert!(refusal(Some(&software)).unwrap().contains("software"));
        }
        for real in [adapter("nvidia", "hopper", ""), adapter("apple", "metal-3", ""), adapter("", "", "")] {
            assert!(refusal(Some(&real)).is_none(), "{real:?}");
        }
        assert!(refusal(None).unwrap().contains("no WebGPU adapter"));
    }

    #[test]
    fn the_cpu_is_chosen_with_a_reason() {
        let config = Config::from_json(r#"{"model_type":"gpt2"}"#).unwrap();
        let open = |request, adapter: Option<&AdapterInfo>| {
            pollster::block_on(open(request, None, adapter, &config)).map(|opened| opened.chosen)
        };
        let auto = open(Request::Auto, Some(&adapter("google", "swiftshader", ""))).unwrap();
        assert_eq!((auto.place.name(), auto.dtype), ("wasm", Dtype::Q8));
        assert!(auto.fallback_reason.unwrap().contains("swiftshader"));
        assert_eq!(open(Request::WebGpu, None).unwrap_err().code(), "webgpu_not_available");
        assert_eq!(open(Request::Wasm, None).unwrap().fallback_reason, None);
        assert!(Request::from_name("gpu").is_err());
        let software = adapter("google", "swiftshader", "");
        assert_eq!(expected(Request::Auto, None, Some(&software)).unwrap().0, "wasm");
        let apple = adapter("apple", "", "");
        assert_eq!(expected(Request::Auto, None, Some(&apple)).unwrap(), ("webgpu", Dtype::Fp16, None));
        assert_eq!(expected(Request::WebGpu, None, Some(&software)).unwrap().0, "webgpu");
        assert!(expected(Request::WebGpu, None, None).is_err());
        assert_eq!(expected(Request::Wasm, Some(Dtype::Q4), None).unwrap().1, Dtype::Q4);
        assert!(dtype_from_name("int8").is_err());
    }

    #[test]
    fn what_cannot_be_addressed_is_refused_before_it_is_fetched() {
        let xl = r#"{"model_type":"gpt2","n_embd":1600,"n_head":25,"n_layer":48}"#;
        let xl = Config::from_json(xl).unwrap();
        assert_eq!(check_memory(&xl, Dtype::Fp32).unwrap_err().code(), "out_of_memory");
        for dtype in [Dtype::Fp16, Dtype::Q8, Dtype::Q4] {
            check_memory(&xl, dtype).unwrap();
        }
    }
}
