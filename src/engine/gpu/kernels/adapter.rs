//! A LoRA adapter's dispatches: the passes of a model with A x before each product that the adapter has a part for, and
//! products that add s B (A x) to what they compute.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gpt2_kernels::layout::Block;

use super::batch::{BatchLayer, Width};
use super::maker::DispatchMaker;
use super::model::{LayerDispatches, layers};
use crate::adapter::{Adapter, MODULES};
use crate::engine::gpu::context::Context;
use crate::engine::gpu::memory::{LowRank, Parts};
use crate::error::Result;

/// An adapter, or the sum of several, on a device. The caches of its texts keep it.
pub(crate) struct GpuAdapter {
    /// Of each block.
    pub parts: Vec<Parts>,
    /// In the place of the model's own.
    pub layers: Vec<LayerDispatches>,
    /// The same for passes over several texts; made when there is such a pass.
    pub batch_layers: RefCell<HashMap<Width, Rc<Vec<BatchLayer>>>>,
}

impl GpuAdapter {
    /// The sum of adapters that fit the model, each with its weight.
    ///
    /// # Errors
    /// As [`LowRank::new`] and those of the kernels.
    pub fn new(make: &DispatchMaker, context: &Context, sum: &[(&Adapter, f32)]) -> Result<Self> {
        let block_parts = |(layer, block): (usize, &Block)| {
            let matrices = [&block.c_attn, &block.c_proj, &block.c_fc, &block.mlp_c_proj];
            let mut parts = Parts::default();
            for (slot, (matrix, (_, op))) in parts.iter_mut().zip(matrices.into_iter().zip(MODULES)) {
                let all = sum.iter().flat_map(|(adapter, weight)| adapter.parts.iter().map(|part| (part, *weight)));
                let found: Vec<_> = all.filter(|(part, _)| (part.layer, part.op) == (layer, op)).collect();
                if !found.is_empty() {
                    *slot = Some(LowRank::new(context, matrix, make.w.max_chunk, &found)?);
                }
            }
            context.queue.submit([]); // the queue keeps a copy of what is written until then
            Ok(parts)
        };
        let blocks = make.image.layout.blocks.iter().enumerate();
        let parts: Vec<Parts> = blocks.map(block_parts).collect::<Result<_>>()?;
        let layers = layers(make, &parts)?;
        Ok(Self { parts, layers, batch_layers: RefCell::default() })
    }
}
