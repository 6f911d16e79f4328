//! `Params` of `wgsl/params.wgsl`: what changes from pass to pass.

use crate::engine::Choose;
use crate::engine::gpu::limits::MAX_SPLITS;

/// Position of a pass in the text, and how its next token is chosen.
#[derive(Clone, Copy)]
pub(crate) struct Params {
    pub n_past: usize,
    pub n_new: usize,
    /// The fewest keys in one piece of a decoding attention ([`Tuning`](super::tuning::Tuning)).
    pub split_keys: usize,
    pub choose: Choose,
}

impl Params {
    fn n_keys(&self) -> usize {
        self.n_past + self.n_new
    }

    /// Keys in one piece of a decoding attention.
    fn split_keys(&self) -> usize {
        self.n_keys().div_ceil(MAX_SPLITS).next_multiple_of(self.split_keys)
    }

    /// Into how many pieces a decoding attention cuts the keys; at most [`MAX_SPLITS`].
    pub fn n_splits(&self) -> usize {
        self.n_keys().div_ceil(self.split_keys())
    }

    pub fn to_bytes(self) -> [u8; 48] {
        let c = &self.choose;
        let words = [
            self.n_past as u32,
            self.n_new as u32,
            self.split_keys() as u32,
            self.n_splits() as u32,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_keys_and_none_is_empty() {
        for split_keys in [32, 64, 128] {
            for n_keys in 1..3000 {
                let p = Params { n_past: n_keys - 1, n_new: 1, split_keys, choose: Choose::default() };
                let (keys, n) = (p.split_keys(), p.n_splits());
                assert!(n <= MAX_SPLITS && n * keys >= n_keys && (n - 1) * keys < n_keys, "{n_keys}: {n} of {keys}");
            }
        }
    }
}
