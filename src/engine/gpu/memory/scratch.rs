//! The widths that kernels are compiled for, and the buffers between one kernel and the next.

use gpt2_kernels::layout::{BLOCK, GROUP};
use wgpu::{Buffer, BufferUsages, Limits};

use crate::checkpoint::Config;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::{MAX_K, MAX_PIECES, MAX_THREADS, N_PIECES, PARAMS_BYTES, TILE_KEYS};
use crate::error::{Error, Result};

/// Most tokens of one pass; longer prompts are cut. This many already keep the largest GPUs busy.
const MAX_CHUNK: usize = 512;
/// Most memory for the logits of all rows of a pass, bytes.
const MAX_LOGITS_BYTES: usize = 16 << 20;

/// The widths that kernels are made for. Padded ones are multiples of 32 (C, inner) or 4 (D, V) and zero beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    pub c: usize,
    pub c_padded: usize,
    pub inner_padded: usize,
    pub n_head: usize,
    pub head_dim: usize,
    pub head_padded: usize,
    pub vocab: usize,
    pub vocab_padded: usize,
    pub n_positions: usize,
    /// Most tokens of a pass.
    pub max_chunk: usize,
    /// Most tokens of a pass that wants logits of all of them.
    pub max_rows: usize,
}

impl Widths {
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] for a model that does not fit the device's limits or the kernels'.
    pub fn new(config: &Config, limits: &Limits) -> Result<Self> {
        let head_dim = config.head_dim();
        if head_dim > 4 * MAX_THREADS {
            let message = format!("heads of {head_dim} columns, and the GPU engine takes at most {}", 4 * MAX_THREADS);
            return Err(Error::WebGpuNotAvailable(message));
        }
        let max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let max_binding = usize::try_from(max_binding).unwrap_or(usize::MAX);
        let (c_padded, inner_padded) = (config.n_embd.next_multiple_of(BLOCK), config.n_inner.next_multiple_of(BLOCK));
        let (head_padded, vocab_padded) = (head_dim.next_multiple_of(4), config.vocab_size.next_multiple_of(GROUP));
        let row_bytes = 4 * c_padded.max(inner_padded).max(config.n_head * head_padded);
        let cache_bytes = config.n_positions.saturating_mul(8 * config.n_head * head_padded);
        let largest = row_bytes.max(cache_bytes).max(4 * vocab_padded);
        if largest > max_binding {
            let message = format!("the engine needs {largest} bytes at once and this GPU binds at most {max_binding}");
            return Err(Error::WebGpuNotAvailable(message));
        }
        Ok(Self {
            c: config.n_embd,
            c_padded,
            inner_padded,
            n_head: config.n_head,
            head_dim,
            head_padded,
            vocab: config.vocab_size,
            vocab_padded,
            n_positions: config.n_positions,
            max_chunk: MAX_CHUNK.min(config.n_positions).min(max_binding / row_bytes),
            max_rows: (MAX_LOGITS_BYTES.min(max_binding) / (4 * vocab_padded)).clamp(1, 64),
        })
    }

    /// vec4s of one head
    pub fn lanes(&self) -> usize {
        self.head_padded / 4
    }

    /// Threads of an attention: at least one for each lane, and where they are not too many one for each of the four
    /// parts of a tile's values.
    pub fn attention_threads(&self) -> usize {
        let n_parts = if 4 * self.lanes() <= MAX_THREADS { 4 } else { 1 };
        (n_parts * self.lanes()).next_power_of_two().max(TILE_KEYS)
    }

    /// Tokens of one text that a workgroup of an attention works on: their queries take half of its memory at most.
    pub fn block_tokens(&self) -> usize {
        previous_power_of_two(8192 / (16 * self.lanes())).min(16)
    }

    /// Tiles of keys in one piece of a single token's attention.
    pub fn piece_tiles(&self) -> usize {
        self.n_positions.div_ceil(TILE_KEYS).div_ceil(MAX_PIECES)
    }
}

pub(crate) fn previous_power_of_two(n: usize) -> usize {
    1 << n.max(1).ilog2()
}

/// The buffers between kernels. All texts share them, since the queue runs one pass after the other.
pub(crate) struct Scratch {
    /// `Params` of wgsl/params.wgsl
    pub params: Buffer,
    /// Token ids of the pass: written by the host, or the one that `choose` wrote.
    pub ids: Buffer,
    /// The residual stream, [T, C'].
    pub x: Buffer,
    /// Queries, [T][H][D'].
    pub q: Buffer,
    /// Pieces of a single token's attention, [H][`MAX_PIECES`][D' + 4].
    pub pieces: Buffer,
    /// [T, C']
    pub normed: Buffer,
    /// [T, C']
    pub attended: Buffer,
    /// The MLP's hidden layer, [T, inner'].
    pub hidden: Buffer,
    /// [rows, V']
    pub logits: Buffer,
    /// The best of each piece of the vocabulary.
    pub tops: Buffer,
    /// The output of `choose` for the host: four words and `MAX_K` pairs.
    pub choice: Buffer,
}

impl Scratch {
    pub fn new(context: &Context, w: &Widths) -> Self {
        let floats = |label, n: usize| context.storage(label, 4 * n as u64);
        let rows = |label, width: usize| floats(label, w.max_chunk * width);
        Self {
            params: context.buffer("params", PARAMS_BYTES as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
            ids: floats("ids", w.max_chunk),
            x: rows("x", w.c_padded),
            q: rows("q", w.n_head * w.head_padded),
            pieces: floats("attention pieces", w.n_head * MAX_PIECES * (w.head_padded + 4)),
            normed: rows("normed", w.c_padded),
            attended: rows("attended", w.c_padded),
            hidden: rows("hidden", w.inner_padded),
            logits: floats("logits", w.max_rows * w.vocab_padded),
            tops: floats("tops", 2 * N_PIECES * (MAX_K + 1)),
            choice: floats("choice", 4 + 2 * MAX_K),
        }
    }

    fn all(&self) -> [&Buffer; 11] {
        let Self { params, ids, x, q, pieces, normed, attended, hidden, logits, tops, choice } = self;
        [params, ids, x, q, pieces, normed, attended, hidden, logits, tops, choice]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.all().into_iter().for_each(Buffer::destroy);
    }
}
