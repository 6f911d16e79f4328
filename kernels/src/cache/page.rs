//! One page of the cache: how the keys and values of one head lie in memory.

use alloc::vec;
use alloc::vec::Vec;

use crate::simd::{F32x4, magnitude, nearest_i16};

/// Tokens in one page; even, since values are stored in pairs of tokens. With pages of 64, attention starts anew so
/// often that a token takes some percent longer. Larger pages waste memory, because the shortest text takes a whole
/// one.
pub const PAGE: usize = 128;

/// D': the head's width padded to a multiple of 16.
pub fn padded_dim(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// One page of one head: keys and values of [`PAGE`] tokens. D' is D padded with zeros to a multiple of 16.
#[derive(Clone)]
pub enum HeadPage {
    /// For fp32 and fp16 models.
    F32 {
        /// Row-major [PAGE, D'/4]
        keys: Vec<[f32; 4]>,
        /// Row-major [PAGE, D'/4]
        values: Vec<[f32; 4]>,
    },
    /// For q8 and q4 models: each key and each value of a token has a scale of its own.
    I8 {
        /// [PAGE, D'/16]
        keys: Vec<[u8; 16]>,
        /// [PAGE]
        key_scales: Vec<f32>,
        /// [PAGE/2, D'/8]: each 16 bytes hold the same eight dimensions of two tokens, which take turns
        values: Vec<[u8; 16]>,
        /// [PAGE]
        value_scales: Vec<f32>,
    },
}

impl HeadPage {
    /// A page of zeros.
    pub fn new(is_quantised: bool, head_dim: usize) -> Self {
        let d = padded_dim(head_dim);
        match is_quantised {
            false => Self::F32 { keys: vec![[0.0; 4]; PAGE * d / 4], values: vec![[0.0; 4]; PAGE * d / 4] },
            true => Self::I8 {
                keys: vec![[0; 16]; PAGE * d / 16],
                key_scales: vec![0.0; PAGE],
                values: vec![[0; 16]; PAGE * d / 16],
                value_scales: vec![0.0; PAGE],
            },
        }
    }

    /// Bytes of one page.
    pub fn n_bytes(is_quantised: bool, head_dim: usize) -> usize {
        let n_values = 2 * PAGE * padded_dim(head_dim);
        if is_quantised { n_values + 2 * PAGE * 4 } else { n_values * 4 }
    }

    /// Stores key and value of the token in `slot`. k, v: \[D\]
    pub fn put(&mut self, slot: usize, k: &[f32], v: &[f32]) {
        let d = padded_dim(k.len());
        match self {
            Self::F32 { keys, values } => {
                for (into, from) in [(keys, k), (values, v)] {
                    let into = into[slot * d / 4..][..d / 4].as_flattened_mut();
                    into[..from.len()].copy_from_slice(from);
                }
            }
            Self::I8 { keys, key_scales, values, value_scales } => {
                let (keys, _) = keys[slot * d / 16..][..d / 16].as_flattened_mut().as_chunks_mut::<8>();
                key_scales[slot] = quantise(k, keys.iter_mut(), |into, i, q| into[i] = q);
                let pair = &mut values[slot / 2 * d / 8..][..d / 8];
                value_scales[slot] = quantise(v, pair.iter_mut(), |into, i, q| into[2 * i + slot % 2] = q);
            }
        }
    }
}

/// Rounds each number of x / s to an i8 within ±127. Eight numbers belong to one element of `into`; `put(element, i,
/// q)` stores the i-th of them. → s, NaN if x is not finite
fn quantise<'a, T: 'a>(x: &[f32], into: impl Iterator<Item = &'a mut T>, put: impl Fn(&mut T, usize, u8)) -> f32 {
    let (largest, nan_or_zero) = magnitude(x);
    let inverse = F32x4::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    for (into, x) in into.zip(eights(x)) {
        let mut quants = [0; 8];
        nearest_i16(&x, inverse).store(&mut quants);
        for (i, q) in quants.into_iter().enumerate() {
            put(into, i, q.clamp(-127, 127) as u8);
        }
    }
    largest / 127.0 + nan_or_zero
}

/// Eight numbers at a time; zeros fill up the last eight.
fn eights(x: &[f32]) -> impl Iterator<Item = [f32; 8]> {
    let (whole, rest) = x.as_chunks::<8>();
    let mut last = [0.0; 8];
    last[..rest.len()].copy_from_slice(rest);
    whole.iter().copied().chain((!rest.is_empty()).then_some(last))
}
