//! What passes over several texts need, made at the first of them and kept.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use wgpu::{BindGroup, Buffer};

use crate::engine::BatchRow;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::kernels::{BatchLayer, BatchScratch, Dispatch, DispatchMaker, Pipelines, Width};
use crate::engine::gpu::limits::CACHES_AT_ONCE;
use crate::engine::gpu::memory::GpuCache;
use crate::error::Result;

/// Sets of texts whose bind groups are kept: texts take turns when one joins or leaves.
const MAX_SETS: usize = 16;

/// Buffers, dispatches and bind groups.
pub(crate) struct Batch {
    pub scratch: BatchScratch,
    pub embed: Dispatch,
    pub layers: RefCell<HashMap<Width, Rc<Vec<BatchLayer>>>>,
    pub heads: RefCell<HashMap<Width, Rc<Vec<Dispatch>>>>,
    /// Bound where there are fewer texts than a dispatch binds the caches of; a buffer may not be bound twice.
    nobody: [Buffer; CACHES_AT_ONCE],
    /// By the caches, a bind group for each layer; the newest last.
    sets: RefCell<VecDeque<(CacheSet, Rc<Vec<BindGroup>>)>>,
}

/// The caches that a dispatch binds, by their numbers.
type CacheSet = [Option<u64>; CACHES_AT_ONCE];

impl Batch {
    pub fn new(context: &Context, maker: &DispatchMaker) -> Result<Self> {
        let scratch = BatchScratch::new(context, &maker.w);
        Ok(Self {
            embed: maker.batch_embed(&scratch)?,
            nobody: std::array::from_fn(|_| context.storage("nobody's cache", 16)),
            scratch,
            layers: RefCell::default(),
            heads: RefCell::default(),
            sets: RefCell::default(),
        })
    }

    /// Of each layer the bind group of these texts' caches.
    pub fn bind_groups(
        &self,
        pipelines: &Pipelines,
        n_layer: usize,
        texts: &[BatchRow<'_, GpuCache>],
    ) -> Rc<Vec<BindGroup>> {
        let mut set: CacheSet = [None; CACHES_AT_ONCE];
        set.iter_mut().zip(texts).for_each(|(to, text)| *to = Some(text.cache.number()));
        let mut sets = self.sets.borrow_mut();
        if let Some(at) = sets.iter().position(|(of, _)| *of == set)
            && let Some((of, found)) = sets.remove(at)
        {
            sets.push_back((of, found.clone()));
            return found;
        }
        let context = &pipelines.context;
        let layer = |i: usize| {
            let buffers = self
                .nobody
                .iter()
                .enumerate()
                .map(|(at, nobody)| texts.get(at).and_then(|text| text.cache.buffer(i)).unwrap_or(nobody));
            let entries: Vec<_> = buffers
                .zip(0..)
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            context.count(|c| c.n_objects += 1);
            context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("caches"),
                layout: &pipelines.caches_layout,
                entries: &entries,
            })
        };
        let made: Rc<Vec<_>> = Rc::new((0..n_layer).map(layer).collect());
        if sets.len() == MAX_SETS {
            sets.pop_front();
        }
        sets.push_back((set, made.clone()));
        made
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.nobody.iter().for_each(Buffer::destroy);
    }
}
