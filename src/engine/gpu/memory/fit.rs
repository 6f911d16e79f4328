//! Whether a model can run within a device's limits. It is told from the limits alone, without the device.

use gpt2_kernels::{Dtype, Layout};
use wgpu::Limits;

use super::image::Plan;
use super::scratch::Widths;
use crate::checkpoint::Config;
use crate::engine::gpu::limits::MAX_STORAGE_BUFFERS;
use crate::error::{Error, Result};

/// Checks that a device of these limits can bind a model. → how its packed weights lie, and how they are cut
///
/// # Errors
/// [`Error::WebGpuNotAvailable`] that says what is too large, [`Error::GpuOutOfMemory`] for weights beyond what an
/// address can reach.
pub fn check_limits(config: &Config, dtype: Dtype, limits: &Limits) -> Result<(Layout, Plan)> {
    let found = limits.max_storage_buffers_per_shader_stage;
    if found < MAX_STORAGE_BUFFERS {
        let message = format!("the engine binds {MAX_STORAGE_BUFFERS} buffers at once and this GPU at most {found}");
        return Err(Error::WebGpuNotAvailable(message));
    }
    let uncountable = || Error::GpuOutOfMemory { what: "the packed weights".into(), n_bytes: u64::MAX };
    let layout = Layout::new(&config.dims(), dtype).ok_or_else(uncountable)?;
    let plan = Plan::new(&layout, limits)?;
    Widths::new(config, limits)?;
    Ok((layout, plan))
}
