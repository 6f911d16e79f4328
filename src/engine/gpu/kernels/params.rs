//! `Params` of `wgsl/params.wgsl`: what changes from pass to pass.

use crate::engine::Choose;

/// Position of a pass in the text, and how its next token is chosen.
#[derive(Clone, Copy)]
pub(crate) struct Params {
    pub n_past: usize,
    pub n_new: usize,
    pub choose: Choose,
}

impl Params {
    pub fn to_bytes(self) -> [u8; 48] {
        let c = &self.choose;
        let words = [
            self.n_past as u32,
            self.n_new as u32,
            c.k as u32,
            u32::from(c.do_sample),
            (1.0 / c.temperature).to_bits(),
            c.top_p.to_bits(),
            c.min_p.to_bits(),
            c.coin.to_bits(),
            if c.top_k == 0 { c.k } else { c.top_k } as u32,
        ];
        let mut bytes = [0; 48];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }
}
