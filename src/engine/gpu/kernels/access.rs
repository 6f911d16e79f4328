//! What a shader does with a buffer that is bound to it.

use wgpu::{BindGroupLayout, BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};

use crate::engine::gpu::context::Context;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Uniform,
}

impl Access {
    pub fn layout_entry(self, binding: u32) -> BindGroupLayoutEntry {
        let ty = match self {
            Self::Read => BufferBindingType::Storage { read_only: true },
            Self::Write => BufferBindingType::Storage { read_only: false },
            Self::Uniform => BufferBindingType::Uniform,
        };
        BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        }
    }
}

/// The layout of a bind group of so many caches' keys and values in one layer: buffers that are read and written.
pub(super) fn cache_layout(context: &Context, n_caches: usize) -> BindGroupLayout {
    let entries: Vec<_> = (0..n_caches as u32).map(|i| Access::Write.layout_entry(i)).collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("cache"), entries: &entries };
    context.device.create_bind_group_layout(&descriptor)
}
