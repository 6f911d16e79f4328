//! x of y = W x: the vectors of some rows, in the form that the products read.

use alloc::vec;
use alloc::vec::Vec;

use crate::limits::BLOCK;
use crate::simd::{Chunk, F32x4, I16x8, NibbleX, Nibbles, magnitude, nearest_i16, planes};

/// The form in which a product reads x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// f32, for fp32 and fp16.
    Floats,
    /// i16, for q8: round(x / s) with s = max|x| / 8191.
    Words,
    /// The same numbers as two planes of 7 bits, for processors that multiply bytes: x + 8192 = 128 h + l.
    Planes,
    /// For q4: round(x / s) within ±127, with s = max|x| / 127 of each 32 numbers.
    Blocks,
}

impl Form {
    /// The most rows of x that are multiplied together, so many that their sums fit the sixteen vector registers of
    /// x86-64. Such a tile lies together, its vectors taking turns along k.
    const fn tile(self) -> usize {
        match self {
            Self::Planes => 1,
            Self::Floats | Self::Blocks | Self::Words => 2,
        }
    }
}

/// The largest magnitude in [`Form::Words`]: 14 bits with the sign. Rounding x then costs a thirtieth of what rounding
/// the weights to 8 bits costs, and the sum of [`crate::product::SEGMENT`] products fits an i32.
pub const WORD_MAX: f32 = 8191.0;
/// The largest magnitude in [`Form::Blocks`].
const BLOCK_MAX: f32 = 127.0;
/// What the scales of [`Form::Blocks`] are multiplied by, because those of the weights are as much too small as
/// [`crate::simd::F16_SCALE`] says: with a part of that here, the product of both is no subnormal number.
pub const BLOCK_SCALE: f32 = f32::from_bits((127 + 64) << 23); // 2^64

/// What a block of [`Form::Blocks`] has beside its numbers.
#[derive(Clone, Copy, Default)]
pub struct BlockTerms {
    /// s · [`BLOCK_SCALE`]
    pub scale: f32,
    /// -8 Σ x of the block: the products take q + 8 for q.
    pub offset: i32,
}

/// T vectors of K numbers, padded to K' with zeros.
#[derive(Default)]
pub struct Inputs {
    n_tokens: usize,
    /// [T, K'/4], in tiles
    f32s: Vec<[f32; 4]>,
    /// [T, K'/8], in tiles
    words: Vec<[i16; 8]>,
    /// [T, K'/16]: h and l
    planes: Vec<[Chunk; 2]>,
    /// [T, K'/32], in tiles
    blocks: Vec<NibbleX>,
    /// [T, K'/32], in tiles
    block_terms: Vec<BlockTerms>,
    /// s, [T]
    scales: Vec<f32>,
    /// The vector that is being written: [K'/8]
    vector: Vec<[f32; 8]>,
}

impl Inputs {
    /// Room for T vectors of K numbers.
    pub fn new(n_tokens: usize, n_cols: usize) -> Self {
        let width = n_cols.next_multiple_of(BLOCK);
        Self {
            n_tokens,
            f32s: vec![[0.0; 4]; n_tokens * width / 4],
            words: vec![[0; 8]; n_tokens * width / 8],
            planes: vec![[[0; 16]; 2]; n_tokens * width / 16],
            blocks: vec![NibbleX::default(); n_tokens * width / BLOCK],
            block_terms: vec![BlockTerms::default(); n_tokens * width / BLOCK],
            scales: vec![0.0; n_tokens],
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

    /// The tile that begins with vector `first`. → how many vectors it has: 1, 2 or 4
    pub fn tile(&self, form: Form, first: usize) -> usize {
        let rest = self.n_tokens - first;
        if rest >= form.tile() { form.tile() } else { 1 << rest.ilog2() }
    }

    /// The tile that vector `t` is in: its first vector, and how many it has.
    fn tile_of(&self, form: Form, t: usize) -> (usize, usize) {
        let mut first = t / form.tile() * form.tile();
        loop {
            let n = self.tile(form, first);
            if t < first + n {
                return (first, n);
            }
            first += n;
        }
    }

    /// The N vectors from `first` on: [K'/4, N]
    pub fn f32s<const N: usize>(&self, first: usize) -> &[[[f32; 4]; N]] {
        part(&self.f32s, first, 2 * self.vector.len())
    }

    /// The N vectors from `first` on, in units of [`Self::scale`]: [K'/8, N]
    pub fn words<const N: usize>(&self, first: usize) -> &[[[i16; 8]; N]] {
        part(&self.words, first, self.vector.len())
    }

    /// Vector `t`, in units of [`Self::scale`]: [K'/16], h and l
    pub fn planes(&self, t: usize) -> &[[Chunk; 2]] {
        let n = self.vector.len() / 2;
        &self.planes[t * n..][..n]
    }

    /// The N vectors from `first` on, in units of [`BlockTerms::scale`]: [K'/32, N]
    pub fn blocks<const N: usize>(&self, first: usize) -> (&[[NibbleX; N]], &[[BlockTerms; N]]) {
        let n = self.vector.len() / 4;
        (part(&self.blocks, first, n), part(&self.block_terms, first, n))
    }

    /// What the sums of vector `t` are multiplied by: s, where the whole vector has one, else 1.
    pub fn scale(&self, form: Form, t: usize) -> f32 {
        match form {
            Form::Floats | Form::Blocks => 1.0,
            Form::Words | Form::Planes => self.scales[t],
        }
    }

    /// Sets vector `t`. `write` is given a slice of K' numbers and writes the first K.
    pub fn set(&mut self, t: usize, form: Form, write: impl FnOnce(&mut [f32])) {
        write(self.vector.as_flattened_mut());
        let (first, tile) = self.tile_of(form, t);
        let n = self.vector.len();
        match form {
            Form::Floats => {
                let into = self.f32s[2 * n * first + t - first..].iter_mut().step_by(tile);
                for (into, x) in into.zip(self.vector.as_flattened().as_chunks::<4>().0) {
                    *into = *x;
                }
            }
            Form::Words => {
                let (inverse, scale) = scale(self.vector.as_flattened(), WORD_MAX);
                let into = self.words[n * first + t - first..].iter_mut().step_by(tile);
                for (into, x) in into.zip(&self.vector) {
                    nearest_i16(x, inverse).store(into);
                }
                self.scales[t] = scale;
            }
            Form::Planes => {
                let (inverse, scale) = scale(self.vector.as_flattened(), WORD_MAX);
                for (into, [low, high]) in self.planes[n / 2 * t..].iter_mut().zip(self.vector.as_chunks().0) {
                    *into = planes(nearest_i16(low, inverse), nearest_i16(high, inverse));
                }
                self.scales[t] = scale;
            }
            Form::Blocks => {
                let at = n / 4 * first + t - first;
                let into = self.blocks[at..].iter_mut().zip(&mut self.block_terms[at..]).step_by(tile);
                for ((into, terms), x) in into.zip(self.vector.as_chunks::<4>().0) {
                    (*into, *terms) = block(x);
                }
            }
        }
    }
}

/// Of vectors that take turns in tiles: the tile of N from `first` on, `n` elements of each.
fn part<const N: usize, T>(all: &[T], first: usize, n: usize) -> &[[T; N]] {
    &all[first * n..][..N * n].as_chunks().0[..n]
}

/// 1 / s and s, with s = max|x| / `most`. If x is not finite, s is NaN and so are the logits: the caller sees that
/// something is wrong.
fn scale(x: &[f32], most: f32) -> (F32x4, f32) {
    let (largest, nan_or_zero) = magnitude(x);
    let inverse = most / largest;
    // of zeros, and of numbers so small that the inverse is beyond f32, nothing is left
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (F32x4::splat(inverse), largest / most + nan_or_zero)
}

/// A block in [`Form::Blocks`].
fn block(x: &[[f32; 8]; 4]) -> (NibbleX, BlockTerms) {
    let (inverse, scale) = scale(x.as_flattened(), BLOCK_MAX);
    let quants = x.each_ref().map(|x| nearest_i16(x, inverse));
    let ones = I16x8::load(&[1; 8]);
    let sums = quants.map(|q| q.dot(ones)).into_iter().reduce(|a, b| a + b);
    let sum = sums.map_or(0, |sums| sums.lanes().into_iter().sum::<i32>());
    (Nibbles::x(quants), BlockTerms { scale: scale * BLOCK_SCALE, offset: -8 * sum })
}
