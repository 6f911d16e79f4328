//! `Params` of `wgsl/params.wgsl`: what changes from pass to pass.

use crate::engine::Choose;
use crate::engine::gpu::limits::{MAX_FEW, PARAMS_BYTES};

/// Position of a pass in the text, and how its next token is chosen.
#[derive(Clone, Copy)]
pub(crate) struct Params {
    pub n_past: usize,
    pub n_new: usize,
    /// Of a batch, how many of its tokens' logits are wanted.
    pub n_rows: usize,
    /// Of a batch, which these are, if they are few.
    pub rows: [u32; MAX_FEW],
    /// Of a batch, where its blocks and its rows are told.
    pub blocks_at: usize,
    pub rows_at: usize,
    pub choose: Choose,
}

impl Params {
    /// Of a pass over one text.
    pub fn of_text(n_past: usize, n_new: usize, choose: Choose) -> Self {
        Self { n_past, n_new, n_rows: 0, rows: [0; MAX_FEW], blocks_at: 0, rows_at: 0, choose }
    }

    pub fn to_bytes(self) -> [u8; PARAMS_BYTES] {
        let c = &self.choose;
        let words = [
            self.n_past as u32,
            self.n_new as u32,
            self.n_rows as u32,
            self.blocks_at as u32,
            self.rows_at as u32,
            c.k as u32,
            u32::from(c.do_sample),
            (1.0 / c.temperature).to_bits(),
            c.top_p.to_bits(),
            c.min_p.to_bits(),
            c.coin.to_bits(),
            if c.top_k == 0 { c.k } else { c.top_k } as u32,
            u32::from(c.whole),
            0,
            0,
            0,
        ];
        let mut bytes = [0; PARAMS_BYTES];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words.into_iter().chain(self.rows)) {
            *to = word.to_le_bytes();
        }
        bytes
    }
}
