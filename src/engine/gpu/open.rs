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
    /// Asks for an adapter, and for a device with all limits of it and those of its features that are of use.
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

/// Lets go of a GPU and returns all of its memory at once, whoever still holds a part of it. The next call of [`open`]
/// opens another.
pub fn destroy() {
    if let Some(gpu) = GPU.take() {
        gpu.device.destroy();
    }
}

/// The GPU, opened at the first call.
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

/// What the GPU engine can make use of, where an adapter has it.
const FEATURES: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::SUBGROUP).union(wgpu::Features::TIMESTAMP_QUERY);
