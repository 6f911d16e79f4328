//! Keys and values of a text, in the device's memory: one buffer a layer, [capacity][2][H][D'].
//!
//! A position's key and value lie side by side, so where they are does not depend on the capacity, growing and cloning
//! are one copy of a prefix, and going back is a smaller number. The capacity grows by doubling and not to the whole
//! context window at once: GPT-2 XL's would take 629 MB for each text, and most texts, and most clones, stay short.
//! Growing creates objects at 128, 256, 512, … tokens and never in between.

use std::fmt;
use std::rc::Rc;

use wgpu::{BindGroup, BindGroupEntry, BindGroupLayout, Buffer};

use crate::engine::Cache;
use crate::engine::gpu::context::Context;

/// Tokens that a new cache has room for.
const MIN_CAPACITY: usize = 128;

/// What all caches of an engine have in common.
pub(crate) struct CacheShape {
    pub context: Rc<Context>,
    pub layout: BindGroupLayout,
    pub n_layer: usize,
    pub n_positions: usize,
    /// Key and value of one token in one layer.
    pub token_bytes: usize,
}

/// The KV cache of one text. A clone copies on the device, and only what is held.
pub struct GpuCache {
    shape: Rc<CacheShape>,
    layers: Vec<(Buffer, BindGroup)>,
    /// Tokens that there is room for.
    capacity: usize,
    /// At most `capacity`.
    n_tokens: usize,
}

impl GpuCache {
    pub(crate) fn new(shape: Rc<CacheShape>) -> Self {
        Self { shape, layers: Vec::new(), capacity: 0, n_tokens: 0 }
    }

    /// Makes room for so many tokens in all.
    pub(crate) fn reserve(&mut self, n_tokens: usize) {
        if n_tokens > self.capacity {
            *self = self.copy_with_room(n_tokens);
        }
    }

    /// Adds to the number of tokens after a pass was submitted that appends their keys and values.
    pub(crate) fn advance(&mut self, n_new: usize) {
        debug_assert!(self.n_tokens + n_new <= self.capacity);
        self.n_tokens += n_new;
    }

    pub(crate) fn bind_group(&self, layer: usize) -> Option<&BindGroup> {
        self.layers.get(layer).map(|(_, bind_group)| bind_group)
    }

    pub(crate) fn n_layer(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn belongs_to(&self, shape: &Rc<CacheShape>) -> bool {
        Rc::ptr_eq(&self.shape, shape)
    }

    /// Bytes of device memory.
    pub fn n_bytes(&self) -> usize {
        self.capacity * self.shape.token_bytes * self.shape.n_layer
    }

    fn copy_with_room(&self, n_tokens: usize) -> Self {
        let shape = self.shape.clone();
        let capacity = n_tokens.next_power_of_two().max(MIN_CAPACITY).min(shape.n_positions);
        let context = &shape.context;
        let layers: Vec<_> = (0..shape.n_layer)
            .map(|_| {
                let buffer = context.storage("cache", (capacity * shape.token_bytes) as u64);
                context.count(|c| c.n_objects += 1);
                let bind_group = context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("cache"),
                    layout: &shape.layout,
                    entries: &[BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
                });
                (buffer, bind_group)
            })
            .collect();
        if self.n_tokens > 0 {
            let mut encoder = context.device.create_command_encoder(&Default::default());
            for ((from, _), (to, _)) in self.layers.iter().zip(&layers) {
                let n_bytes = (self.n_tokens * shape.token_bytes) as u64;
                encoder.copy_buffer_to_buffer(from, 0, to, 0, n_bytes);
            }
            context.submit(encoder.finish());
        }
        Self { shape, layers, capacity, n_tokens: self.n_tokens }
    }
}

impl Clone for GpuCache {
    fn clone(&self) -> Self {
        match self.n_tokens {
            0 => Self::new(self.shape.clone()),
            n_tokens => self.copy_with_room(n_tokens),
        }
    }
}

impl fmt::Debug for GpuCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuCache").field("capacity", &self.capacity).field("n_tokens", &self.n_tokens).finish()
    }
}

impl Drop for GpuCache {
    fn drop(&mut self) {
        // passes that were submitted earlier can still use the buffers
        self.layers.iter().for_each(|(buffer, _)| buffer.destroy());
    }
}

impl Cache for GpuCache {
    fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    fn truncate(&mut self, n_tokens: usize) {
        self.n_tokens = self.n_tokens.min(n_tokens);
    }
}
