//! What attention computes from one page: scores of keys, and weighted sums of values.

use alloc::vec;
use alloc::vec::Vec;

use super::page::{HeadPage, PAGE, padded_dim};
use crate::simd::{F32x4, I16x8, I32x4, magnitude, nearest_i16, widen_i8};

/// The query of one token and head, ready for either kind of page.
pub struct Query {
    /// [D'/4], times the scale of the scores
    f32s: Vec<[f32; 4]>,
    /// [D'/8], in units of `scale`
    i16s: Vec<[i16; 8]>,
    scale: f32,
}

impl Query {
    /// Room for one head.
    pub fn new(head_dim: usize) -> Self {
        let d = padded_dim(head_dim);
        Self { f32s: vec![[0.0; 4]; d / 4], i16s: vec![[0; 8]; d / 8], scale: 0.0 }
    }

    /// q · scale. q: \[D\]
    pub fn set(&mut self, q: &[f32], scale: f32) {
        let f32s = self.f32s.as_flattened_mut();
        for (into, q) in f32s.iter_mut().zip(q) {
            *into = q * scale;
        }
        let (largest, nan_or_zero) = magnitude(f32s);
        // a lane adds D'/4 products of at most 32767 · 127, which fits an i32 up to D = 2000
        const Q_MAX: f32 = 32767.0;
        let inverse = if largest > 0.0 { Q_MAX / largest } else { 0.0 };
        for (into, q) in self.i16s.iter_mut().zip(f32s.as_chunks().0) {
            nearest_i16(q, F32x4::splat(inverse)).store(into);
        }
        self.scale = largest / Q_MAX + nan_or_zero;
    }
}

/// q · k of the page's first tokens, one for each of `scores`.
///
/// A function of its own, for the reason that `product::dot_one` gives.
#[inline(never)]
pub fn page_scores(page: &HeadPage, q: &Query, scores: &mut [f32]) {
    match page {
        HeadPage::F32 { keys, .. } => {
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(q.f32s.len())) {
                let dot = |sum: F32x4, (k, q)| F32x4::load(k).madd(F32x4::load(q), sum);
                let [a, b, c, d] = key.iter().zip(&q.f32s).fold(F32x4::splat(0.0), dot).lanes();
                *score = (a + c) + (b + d);
            }
        }
        HeadPage::I8 { keys, key_scales, .. } => {
            let q16 = q.i16s.as_chunks::<2>().0;
            let dot = |key: &[[u8; 16]]| {
                let sum = key.iter().zip(q16).fold(I32x4::zero(), |sum, (k, q)| {
                    let [low, high] = widen_i8(k);
                    sum + low.dot(I16x8::load(&q[0])) + high.dot(I16x8::load(&q[1]))
                });
                sum.to_f32()
            };
            let mut tokens = keys.chunks_exact(q16.len());
            for (scores, scales) in scores.chunks_mut(4).zip(key_scales.as_chunks::<4>().0) {
                // a page always holds PAGE keys, so there are four even if fewer scores are wanted
                let sums = core::array::from_fn(|_| tokens.next().map_or(F32x4::splat(0.0), dot));
                let four = F32x4::sums(sums) * F32x4::load(scales) * F32x4::splat(q.scale);
                scores.copy_from_slice(&four.lanes()[..scores.len()]);
            }
        }
    }
}

/// Adds Σ weight · v over the page's first tokens, one for each of `weights`. out: [D'/4]
///
/// A function of its own, for the reason that `product::dot_one` gives.
#[inline(never)]
pub fn add_page_values(page: &HeadPage, weights: &[f32], out: &mut [[f32; 4]]) {
    match page {
        HeadPage::F32 { values, .. } => {
            for (&weight, value) in weights.iter().zip(values.chunks_exact(out.len())) {
                let weight = F32x4::splat(weight);
                for (out, v) in out.iter_mut().zip(value) {
                    F32x4::load(v).madd(weight, F32x4::load(out)).store(out);
                }
            }
        }
        HeadPage::I8 { values, value_scales, .. } => {
            // the weights take over the values' scales and become i16: a lane adds PAGE products, whose sum fits an i32
            const W_MAX: f32 = 32767.0;
            let mut scaled = [0.0; PAGE];
            for ((scaled, w), s) in scaled.iter_mut().zip(weights).zip(value_scales) {
                *scaled = w * s;
            }
            let scaled = &scaled[..weights.len().next_multiple_of(8)];
            let (largest, nan_or_zero) = magnitude(scaled);
            let inverse = if largest > 0.0 { W_MAX / largest } else { 0.0 };
            let mut quants = [[0_i16; 8]; PAGE / 8];
            for (into, w) in quants.iter_mut().zip(scaled.as_chunks().0) {
                nearest_i16(w, F32x4::splat(inverse)).store(into);
            }
            let pairs = &quants.as_flattened().as_chunks::<2>().0[..weights.len().div_ceil(2)];
            let scale = F32x4::splat(largest / W_MAX + nan_or_zero);
            let n = out.len() / 2; // 16-byte pieces of a pair
            for (piece, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                add_piece::<4>(values, pairs, n, piece * 4, scale, out);
            }
            let done = out.len() / 8 * 4;
            for (piece, out) in out[done * 2..].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                add_piece::<1>(values, pairs, n, done + piece, scale, out);
            }
        }
    }
}

/// Adds Σ weight · v for 8 N of the head's dimensions: of the `n` 16-byte pieces that hold a pair of tokens, these are
/// the `N` from number `first` on. out: [2 N]
#[inline(always)]
fn add_piece<const N: usize>(
    values: &[[u8; 16]],
    pairs: &[[i16; 2]],
    n: usize,
    first: usize,
    scale: F32x4,
    out: &mut [[f32; 4]],
) {
    let mut sums = [[I32x4::zero(); 2]; N];
    for (value, &pair) in values.chunks_exact(n).zip(pairs) {
        let weight = I16x8::splat_pair(pair);
        for (sum, piece) in sums.iter_mut().zip(&value[first..first + N]) {
            let [low, high] = widen_i8(piece);
            *sum = [sum[0] + low.dot(weight), sum[1] + high.dot(weight)];
        }
    }
    for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
        sum.to_f32().madd(scale, F32x4::load(out)).store(out);
    }
}
