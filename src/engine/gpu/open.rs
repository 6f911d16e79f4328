//! Asking for a GPU: one device for the whole page, opened once and shared by whoever needs it.

use std::cell::RefCell;

use crate::error::{Error, Result};

/// A GPU that is open, and all that another runtime needs to run on it as well.
#[derive(Clone, Debug)]
pub struct OpenGpu {
    /// What found the adapter.
    pub instance: wgpu::Instance,
    /// Whose device it is.
    pub adapter: wgpu::Adapter,
    /// What the engine runs on.
    pub device: wgpu::Device,
    /// The device's queue.
    pub queue: wgpu::Queue,
}

impl OpenGpu {
    /// Asks for an adapter, and for a device with all of its limits and with those of its features that the engine
    /// uses.
    async fn request() -> std::result::Result<Self, String> {
        let instance = wgpu::Instance::default();
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let wanted = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        let adapter = instance.request_adapter(&wanted).await.map_err(|e| e.to_string())?;
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            required_features: adapter.features() & FEATURES,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| e.to_string())?;
        Ok(Self { instance, adapter, device, queue })
    }
}

thread_local! {
    static GPU: RefCell<Option<OpenGpu>> = const { RefCell::new(None) };
}

/// Destroys the device, which frees all of its memory at once, even if buffers of it are still in use. The next call of
/// [`open`] opens a new one.
pub fn destroy() {
    if let Some(gpu) = GPU.take() {
        gpu.device.destroy();
    }
}

/// The page's GPU. The first call opens it.
///
/// # Errors
/// [`Error::WebGpuNotAvailable`] if there is none that works.
pub async fn open() -> Result<OpenGpu> {
    if let Some(gpu) = GPU.with_borrow(Clone::clone) {
        return Ok(gpu);
    }
    let gpu = OpenGpu::request().await.map_err(Error::WebGpuNotAvailable)?;
    GPU.set(Some(gpu.clone()));
    Ok(gpu)
}

/// Optional features that the GPU engine uses where an adapter has them.
const FEATURES: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::SUBGROUP).union(wgpu::Features::TIMESTAMP_QUERY);
