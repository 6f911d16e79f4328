//! What a LoRA adapter adds to one matrix, in the device's memory.
//!
//! ```text
//! one buffer, vec4<f32>:  A [r'][K'/4] | s B [R][r'/4] | A x [T][r'/4]
//! ```
//!
//! All three are in one buffer since a product has to bind it beside its own, and a device binds few.

use gpt2_kernels::layout::{GROUP, Matrix};
use wgpu::Buffer;

use crate::adapter;
use crate::engine::gpu::context::Context;
use crate::error::{Error, Result};

/// The parts of an adapter for one block: `c_attn`, `c_proj`, `c_fc`, `mlp.c_proj`.
pub(crate) type Parts = [Option<LowRank>; 4];

/// A low-rank part of one matrix, or several whose ranks lie side by side. Dropping it frees its memory at once.
pub(crate) struct LowRank {
    pub buffer: Buffer,
    /// vec4s of all ranks: r'/4
    pub rank4: usize,
    /// Where s B begins, in vec4s.
    pub up_at: usize,
    /// Where A x begins, in vec4s.
    pub lowered_at: usize,
}

impl LowRank {
    /// The sum of parts, each with its weight, for passes of up to `max_tokens`.
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] if they are larger than what the device binds at once. Its own errors are caught by
    /// an error scope.
    pub fn new(
        context: &Context,
        matrix: &Matrix,
        max_tokens: usize,
        parts: &[(&adapter::LowRank, f32)],
    ) -> Result<Self> {
        let (n_cols, width) = (matrix.n_cols, matrix.n_cols_padded());
        let rank = parts.iter().map(|(part, _)| part.rank).sum::<usize>().next_multiple_of(GROUP);
        let (up_at, rank4) = (rank * width / 4, rank / 4);
        let lowered_at = up_at + matrix.n_rows * rank4;
        let n_bytes = 16 * (lowered_at + max_tokens * rank4) as u64;
        let limits = context.device.limits();
        let max_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        if n_bytes > max_bytes {
            let message = format!("LoRA of rank {rank} takes {n_bytes} bytes and this GPU binds at most {max_bytes}");
            return Err(Error::WebGpuNotAvailable(message));
        }
        let mut values = vec![0.0; 4 * lowered_at];
        let (down, up) = values.split_at_mut(4 * up_at);
        let mut first = 0;
        for (part, weight) in parts {
            for (into, a) in down.chunks_exact_mut(width).skip(first).zip(part.a.chunks_exact(n_cols)) {
                into[..n_cols].copy_from_slice(a);
            }
            let scale = part.scale * weight;
            for (into, b) in up.chunks_exact_mut(rank).zip(part.b.chunks_exact(part.rank)) {
                into[first..].iter_mut().zip(b).for_each(|(into, b)| *into = scale * b);
            }
            first += part.rank;
        }
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let buffer = context.storage("LoRA", n_bytes);
        context.queue.write_buffer(&buffer, 0, &bytes);
        Ok(Self { buffer, rank4, up_at, lowered_at })
    }
}

impl Drop for LowRank {
    fn drop(&mut self) {
        self.buffer.destroy(); // passes that were submitted earlier can still use it
    }
}
