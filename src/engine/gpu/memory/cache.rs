//! Keys and values of a text, in the device's memory: one buffer a layer, [capacity][2][H][D'].
//!
//! A position's key and value lie side by side, so where they are does not depend on the capacity, growing and cloning
//! are one copy of a prefix, and going back is a smaller number. The capacity grows by doubling and not to the whole
//! context window at once: GPT-2 XL's would take 629 MB for each text, and most texts, and most clones, stay short.
//! Growing creates objects at 128, 256, 512, … tokens and never in between.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use wgpu::{BindGroup, BindGroupEntry, BindGroupLayout, Buffer};

use crate::engine::Cache;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::kernels::GpuAdapter;
use crate::error::Result;

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
    /// How often buffers for a cache were made.
    pub n_made: Cell<u64>,
}

/// Buffers for some number of tokens. Dropping them frees them at once, not when a page's garbage is next collected.
struct Layers {
    /// Unlike that of any other of the engine's.
    number: u64,
    layers: Vec<(Buffer, BindGroup)>,
}

impl Layers {
    /// As zeros.
    fn new(shape: &CacheShape, capacity: usize) -> Self {
        let context = &shape.context;
        let layer = |_| {
            let buffer = context.storage("cache", (capacity * shape.token_bytes) as u64);
            context.count(|c| c.n_objects += 1);
            let bind_group = context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("cache"),
                layout: &shape.layout,
                entries: &[BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
            });
            (buffer, bind_group)
        };
        shape.n_made.update(|n| n + 1);
        Self { number: shape.n_made.get(), layers: (0..shape.n_layer).map(layer).collect() }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // passes that were submitted earlier can still use the buffers
        self.layers.iter().for_each(|(buffer, _)| buffer.destroy());
    }
}

/// The KV cache of one text. A clone shares the buffers until one of the two is to hold more: that one then gets buffers
/// of its own, with a copy of what it holds.
#[derive(Clone)]
pub struct GpuCache {
    shape: Rc<CacheShape>,
    layers: Rc<Layers>,
    /// Tokens that there is room for.
    capacity: usize,
    /// At most `capacity`.
    n_tokens: usize,
    /// Of these, how many are known to be computed; the passes of the others may still be under way.
    n_computed: usize,
    /// What its text is computed with.
    adapter: Option<Rc<GpuAdapter>>,
}

impl GpuCache {
    pub(crate) fn new(shape: Rc<CacheShape>, adapter: Option<Rc<GpuAdapter>>) -> Self {
        Self {
            shape,
            layers: Rc::new(Layers { number: 0, layers: Vec::new() }),
            capacity: 0,
            n_tokens: 0,
            n_computed: 0,
            adapter,
        }
    }

    /// Whether so many more tokens can be appended without new buffers.
    pub(crate) fn has_room(&self, n_new: usize) -> bool {
        self.n_tokens + n_new <= self.capacity && Rc::strong_count(&self.layers) == 1
    }

    /// Makes room for so many more tokens.
    ///
    /// # Errors
    /// [`Error::GpuOutOfMemory`](crate::Error::GpuOutOfMemory): the cache is as it was, and so is the engine; or
    /// whatever else the device reports.
    pub(crate) async fn make_room(&mut self, n_new: usize) -> Result<()> {
        if self.has_room(n_new) {
            return Ok(());
        }
        let Self { shape, n_tokens, .. } = self;
        let context = &shape.context;
        let capacity = (*n_tokens + n_new).next_power_of_two().max(MIN_CAPACITY).min(shape.n_positions);
        let what = format!("room for {capacity} tokens");
        let layers = context.checked(&what, || Ok(Layers::new(shape, capacity))).await?;
        if *n_tokens > 0 {
            let n_bytes = (*n_tokens * shape.token_bytes) as u64;
            let mut encoder = context.device.create_command_encoder(&Default::default());
            for ((from, _), (to, _)) in self.layers.layers.iter().zip(&layers.layers) {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, n_bytes);
            }
            context.submit(encoder.finish());
        }
        (self.layers, self.capacity) = (Rc::new(layers), capacity);
        Ok(())
    }

    /// Adds to the number of tokens after a pass was submitted that appends their keys and values.
    pub(crate) fn advance(&mut self, n_new: usize) {
        debug_assert!(self.has_room(n_new));
        self.n_tokens += n_new;
    }

    /// Notes that the first `n_tokens` are computed.
    pub(crate) fn computed(&mut self, n_tokens: usize) {
        self.n_computed = n_tokens.min(self.n_tokens);
    }

    pub(crate) fn bind_group(&self, layer: usize) -> Option<&BindGroup> {
        self.layers.layers.get(layer).map(|(_, bind_group)| bind_group)
    }

    /// Keys and values of one layer.
    pub(crate) fn buffer(&self, layer: usize) -> Option<&Buffer> {
        self.layers.layers.get(layer).map(|(buffer, _)| buffer)
    }

    /// Tells the buffers from those of all other caches, and from those that this cache had when it was smaller.
    pub(crate) fn number(&self) -> u64 {
        self.layers.number
    }

    pub(crate) fn adapter(&self) -> Option<&Rc<GpuAdapter>> {
        self.adapter.as_ref()
    }

    pub(crate) fn belongs_to(&self, shape: &Rc<CacheShape>) -> bool {
        Rc::ptr_eq(&self.shape, shape)
    }
}

impl fmt::Debug for GpuCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuCache").field("capacity", &self.capacity).field("n_tokens", &self.n_tokens).finish()
    }
}

impl Cache for GpuCache {
    fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    fn truncate(&mut self, n_tokens: usize) {
        self.n_tokens = self.n_tokens.min(n_tokens);
        self.n_computed = self.n_computed.min(n_tokens);
    }

    fn n_bytes(&self) -> usize {
        self.capacity * self.shape.token_bytes * self.shape.n_layer
    }

    fn n_computed(&self) -> usize {
        self.n_computed
    }
}
