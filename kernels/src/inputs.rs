//! x of y = W x: the vectors of a few tokens, as f32 or, for integer weights, as i16.

use alloc::vec;
use alloc::vec::Vec;

use crate::format::Dtype;
use crate::limits::BLOCK;
use crate::simd::{F32x4, arrange_for_nibbles, magnitude, nearest_i16};

/// Tokens that are multiplied together: with two, the eight sums, the four rows and what else is needed fit the sixteen
/// vector registers of x86-64.
pub const TILE: usize = 2;

/// T vectors of K numbers, padded to K' with zeros. One token lies alone; several lie in tiles of [`TILE`] tokens,
/// whose vectors take turns along k, as the products read them.
///
/// For q8 and q4 a vector x is held as round(x / s) with s = max|x| / q_max. A lane of the product adds K'/4 terms of
/// at most 127 · q_max, and that sum must fit an i32; hence q_max = min(127 · 257, (2³¹ - 1) / (127 · K'/4)). Up to K =
/// 3072 it is 22016 or more, so that rounding x costs a hundredth of what rounding the weights to 8 bits costs. (127 ·
/// 257 is the largest number that two signed bytes can hold, which `simd::arrange_for_nibbles` relies on.)
#[derive(Default)]
pub struct Inputs {
    n_tokens: usize,
    /// [T, K'/4], in tiles
    f32s: Vec<[f32; 4]>,
    /// [T, K'/8], in tiles
    i16s: Vec<[i16; 8]>,
    /// s, [T]
    scales: Vec<f32>,
    /// Of the only vector, for q4: -8 Σ x over each block, [K'/32]
    block_offsets: Vec<i32>,
    /// The vector that is being written: [K']
    vector: Vec<[f32; 8]>,
}

impl Inputs {
    /// Room for T vectors of K numbers.
    pub fn new(n_tokens: usize, n_cols: usize) -> Self {
        let width = n_cols.next_multiple_of(BLOCK);
        let room = n_tokens.next_multiple_of(TILE);
        Self {
            n_tokens,
            f32s: vec![[0.0; 4]; room * width / 4],
            i16s: vec![[0; 8]; room * width / 8],
            scales: vec![0.0; room],
            block_offsets: vec![0; width / BLOCK],
            vector: vec![[0.0; 8]; width / 8],
        }
    }

    /// T
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Changes T, to at most what [`Self::new`] was given.
    pub fn set_n_tokens(&mut self, n_tokens: usize) {
        debug_assert!(n_tokens <= self.scales.len());
        self.n_tokens = n_tokens;
    }

    /// The only vector: [K'/4]
    pub fn f32s(&self) -> &[[f32; 4]] {
        &self.f32s[..2 * self.vector.len()]
    }

    /// The only vector, in units of [`Self::scale`]; for q4 in the order that [`crate::simd::dot_nibbles`] reads:
    /// [K'/8]
    pub fn i16s(&self) -> &[[i16; 8]] {
        &self.i16s[..self.vector.len()]
    }

    /// What to add to each block's sum of [`crate::simd::dot_nibbles`], which multiplies q + 8 instead of q: [K'/32]
    pub fn block_offsets(&self) -> &[i32] {
        &self.block_offsets
    }

    /// Tile `i`: [K'/4, TILE]
    pub fn f32_tile(&self, i: usize) -> &[[[f32; 4]; TILE]] {
        let n = 2 * self.vector.len();
        &self.f32s.as_chunks().0[i * n..][..n]
    }

    /// Tile `i`, in units of [`Self::scale`]: [K'/8, TILE]. If the last token is alone in its tile, the other half of
    /// the tile holds old numbers, and the caller ignores the sums that come of them.
    pub fn i16_tile(&self, i: usize) -> &[[[i16; 8]; TILE]] {
        let n = self.vector.len();
        &self.i16s.as_chunks().0[i * n..][..n]
    }

    /// s of vector `t`
    pub fn scale(&self, t: usize) -> f32 {
        self.scales[t]
    }

    /// Sets vector `t`, for weights of this format. `write` is given a slice of K' numbers and writes the first K.
    pub fn set(&mut self, t: usize, dtype: Dtype, write: impl FnOnce(&mut [f32])) {
        write(self.vector.as_flattened_mut());
        let tile = if self.n_tokens == 1 { 1 } else { TILE };
        let first = t / tile * tile * self.vector.len() + t % tile; // in i16s
        match dtype {
            Dtype::Fp32 | Dtype::Fp16 => {
                let into = self.f32s[2 * (first - t % tile) + t % tile..].iter_mut().step_by(tile);
                for (into, x) in into.zip(self.vector.as_flattened().as_chunks::<4>().0) {
                    *into = *x;
                }
            }
            Dtype::Q8 | Dtype::Q4 => {
                let into = self.i16s[first..].iter_mut().step_by(tile);
                self.scales[t] = quantise(&self.vector, into);
                if dtype == Dtype::Q4 && tile == 1 {
                    self.arrange();
                }
            }
        }
    }

    /// Brings the only vector into the order that [`crate::simd::dot_nibbles`] reads.
    fn arrange(&mut self) {
        let n = self.vector.len();
        for (block, offset) in self.i16s[..n].as_chunks_mut::<4>().0.iter_mut().zip(&mut self.block_offsets) {
            *offset = -8 * block.as_flattened().iter().map(|&x| i32::from(x)).sum::<i32>();
            *block = arrange_for_nibbles(*block);
        }
    }
}

/// Writes round(x / s) of each number to `into`. x: [K'/8] → s, NaN if x is not finite
fn quantise<'a>(x: &[[f32; 8]], into: impl Iterator<Item = &'a mut [i16; 8]>) -> f32 {
    let (largest, nan_or_zero) = magnitude(x.as_flattened());
    let q_max = (i32::MAX as usize / (127 * x.len() * 2)).min(127 * 257) as f32;
    let inverse = F32x4::splat(if largest > 0.0 { q_max / largest } else { 0.0 });
    for (into, x) in into.zip(x) {
        nearest_i16(x, inverse).store(into);
    }
    // if x is not finite, the scale becomes NaN and so do the logits: the caller sees that something is wrong
    largest / q_max + nan_or_zero
}
