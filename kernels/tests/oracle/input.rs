//! What the kernels are tested with.

use gpt2_kernels::{Activation, Dims};

/// Random numbers, the same for the same seed (SplitMix64; Steele et al. 2014).
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Roughly normal: the sum of four uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.next() as f64 / u64::MAX as f64 - 0.5).sum::<f64>() as f32 * 1.7
    }

    /// Mostly ordinary numbers, now and then a zero, an outlier or something tiny.
    pub fn nasty(&mut self, n: usize) -> Vec<f32> {
        let scale = [1.0, 1e-3, 50.0][self.below(3)];
        (0..n)
            .map(|_| match self.below(40) {
                0 => 0.0,
                1 => 100.0 * scale * self.normal(),
                2 => 1e-12 * self.normal(),
                _ => scale * self.normal(),
            })
            .collect()
    }
}

/// A model of one block.
pub fn dims(n_embd: usize, n_head: usize, n_inner: usize) -> Dims {
    Dims {
        vocab_size: 13,
        n_positions: 200,
        n_embd,
        n_layer: 1,
        n_head,
        n_inner,
        activation: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        scale_attn_weights: true,
        scale_attn_by_inverse_layer_idx: false,
        tie_word_embeddings: false,
    }
}

/// The largest magnitude.
pub fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, x| m.max(x.abs()))
}
