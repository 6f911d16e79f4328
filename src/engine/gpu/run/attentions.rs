//! Attention weights, for inspection. They need kernels of their own, because the fast ones never store them.

use std::rc::Rc;

use wgpu::{Buffer, CommandEncoder};

use crate::checkpoint::Config;
use crate::engine::gpu::context::{Context, Staging};
use crate::engine::gpu::kernels::{Dispatch, GpuModel, Params, Pipelines};
use crate::error::Result;

/// Device memory that the attention weights of a pass may take, bytes. It limits the tokens of such a pass.
const MAX_BYTES: usize = 32 << 20;

/// A kernel and a buffer for each layer.
pub(crate) struct Attentions {
    layers: Vec<(Dispatch, Buffer)>,
    n_head: usize,
    /// Tokens of one pass.
    pub max_tokens: usize,
}

impl Attentions {
    pub fn new(config: &Config, model: &GpuModel, context: &Rc<Context>, pipelines: &Pipelines) -> Result<Self> {
        let token_bytes = 4 * config.n_head * config.n_positions; // of one layer
        let max_tokens = (MAX_BYTES / (token_bytes * config.n_layer.max(1))).clamp(1, 64);
        let layer = |i| {
            let buffer = context.storage("attention weights", (token_bytes * max_tokens) as u64);
            Ok((model.attention_weights(config, i, &buffer, pipelines)?, buffer))
        };
        let layers = (0..config.n_layer).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, n_head: config.n_head, max_tokens })
    }

    pub fn step(&self, layer: usize) -> &Dispatch {
        &self.layers[layer].0
    }

    /// Records the copy of every layer's weights, [H, T, S] each, one after the other.
    pub fn copy(&self, context: &Rc<Context>, encoder: &mut CommandEncoder, params: &Params) -> Staging {
        let layer_bytes = (4 * self.n_head * params.n_new * (params.n_past + params.n_new)) as u64;
        let staging = context.staging(layer_bytes * self.layers.len() as u64);
        for (i, (_, buffer)) in self.layers.iter().enumerate() {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging.buffer, i as u64 * layer_bytes, layer_bytes);
        }
        staging
    }
}

impl Drop for Attentions {
    fn drop(&mut self) {
        self.layers.iter().for_each(|(_, buffer)| buffer.destroy());
    }
}

/// The attention weights of a call, collected from its passes.
pub(crate) struct Collected {
    n_head: usize,
    n_past: usize,
    /// T of the whole call.
    n_new: usize,
    /// Per block [H, T, S]. Keys after a token's own position have weight 0.
    blocks: Vec<Vec<f32>>,
}

impl Collected {
    pub fn new(config: &Config, n_past: usize, n_new: usize) -> Self {
        let blocks = vec![vec![0.0; config.n_head * n_new * (n_past + n_new)]; config.n_layer];
        Self { n_head: config.n_head, n_past, n_new, blocks }
    }

    /// Bytes of a pass of `n_chunk` tokens after `n_past`.
    pub fn chunk_bytes(&self, n_past: usize, n_chunk: usize) -> u64 {
        (4 * self.blocks.len() * self.n_head * n_chunk * (n_past + n_chunk)) as u64
    }

    /// Adds the weights of such a pass: f32 [blocks, H, `n_chunk`, `n_past + n_chunk`].
    pub fn add(&mut self, n_past: usize, n_chunk: usize, bytes: &[u8]) {
        let (n_keys, n_all_keys) = (n_past + n_chunk, self.n_past + self.n_new);
        let first = n_past - self.n_past;
        for (i, row) in bytes.chunks_exact(4 * n_keys).enumerate() {
            let (block, head, t) = (i / (self.n_head * n_chunk), i / n_chunk % self.n_head, i % n_chunk);
            let to = &mut self.blocks[block][(head * self.n_new + first + t) * n_all_keys..][..n_keys];
            for (to, &word) in to.iter_mut().zip(row.as_chunks().0) {
                *to = f32::from_le_bytes(word);
            }
        }
    }

    pub fn into_blocks(self) -> Vec<Vec<f32>> {
        self.blocks
    }
}
