//! y = W x + bias for one row of x or many, from packed weights. This is where the time goes.
//!
//! For one row, every weight is read once, straight from the packed image; the memory's speed is the limit. For many,
//! each group of four rows of W is read from memory once and multiplied with all rows of x; arithmetic is the limit.
//! fp32 and fp16 are multiplied as f32; q8 and q4 as integers (see [`Form`]), so precise that nearly all of the error
//! comes from the weights' format.
//!
//! The order of every sum depends on the row of W and the row of x alone: not on how many rows there are, which of them
//! are multiplied together, or which instructions do it. So a text's bits are the same however it is cut, and in
//! whatever company it is computed.

mod bytes;
mod floats;
mod nibbles;

use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::cast_slice;

use crate::format::Dtype;
use crate::inputs::{BLOCK_SCALE, Form, Inputs};
use crate::layout::Matrix;
use crate::limits::GROUP;
use crate::simd::{Chunk, F16_SCALE, F32x4};

// Whoever computes what a product should give needs it.
pub use crate::limits::SEGMENT;

/// A matrix of the image, ready to be multiplied. R' and K' are R and K padded to whole groups and blocks.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    dtype: Dtype,
    /// Chunks of one group.
    group_chunks: usize,
    /// `[R'/4][K'/n][4]` chunks of n values
    quants: &'a [Chunk],
    /// `[R'/4][K'/32][4]` halves; empty but for q4
    block_scales: &'a [[u16; GROUP]],
    /// [R'/4]; empty for fp32
    row_scales: &'a [[f32; GROUP]],
    /// [R'/4]; empty if the matrix has none
    bias: &'a [[f32; GROUP]],
    /// [R'/4, segments], 8192 Σ w; empty but for q8 that is multiplied with planes
    offsets: &'a [[i32; GROUP]],
    /// Segments of a row.
    n_segments: usize,
}

impl<'a> Weights<'a> {
    /// The matrix in its image.
    pub fn new(matrix: &Matrix, image: &'a [u8]) -> Self {
        Self {
            dtype: matrix.dtype,
            group_chunks: matrix.group_bytes() / 16,
            quants: cast_slice(&image[matrix.quants.clone()]),
            block_scales: cast_slice(&image[matrix.block_scales.clone()]),
            row_scales: cast_slice(&image[matrix.row_scales.clone()]),
            bias: cast_slice(&image[matrix.bias.clone()]),
            offsets: &[],
            n_segments: matrix.n_cols_padded().div_ceil(SEGMENT),
        }
    }

    /// Has q8 multiplied with planes, given what [`offsets`] returns for this matrix.
    pub fn with_offsets(self, offsets: &'a [[i32; GROUP]]) -> Self {
        Self { offsets, ..self }
    }

    fn group(&self, group: usize) -> &'a [[Chunk; GROUP]] {
        self.quants[group * self.group_chunks..][..self.group_chunks].as_chunks().0
    }

    fn group_scales(&self, group: usize) -> &'a [[u16; GROUP]] {
        let n = self.group_chunks / GROUP; // q4: one chunk of each row is one block
        &self.block_scales[group * n..][..n]
    }

    fn group_offsets(&self, group: usize) -> &'a [[i32; GROUP]] {
        &self.offsets[group * self.n_segments..][..self.n_segments]
    }

    fn row_scale(&self, group: usize) -> F32x4 {
        F32x4::load(&self.row_scales[group])
    }

    /// The factor of each row's sum, without the scale of x.
    fn scale(&self, group: usize) -> F32x4 {
        match self.dtype {
            Dtype::Fp32 => F32x4::splat(1.0),
            // widened halves are too small by this factor
            Dtype::Fp16 => self.row_scale(group) * F32x4::splat(F16_SCALE),
            // a part of it is in the scales of x
            Dtype::Q4 => self.row_scale(group) * F32x4::splat(F16_SCALE / BLOCK_SCALE),
            Dtype::Q8 => self.row_scale(group),
        }
    }

    /// The form in which it is multiplied with x.
    pub fn form(&self) -> Form {
        match self.dtype {
            Dtype::Fp32 | Dtype::Fp16 => Form::Floats,
            Dtype::Q8 if self.offsets.is_empty() => Form::Words,
            Dtype::Q8 => Form::Planes,
            Dtype::Q4 => Form::Blocks,
        }
    }

    fn bias(&self, group: usize) -> F32x4 {
        self.bias.get(group).map_or(F32x4::splat(0.0), F32x4::load)
    }
}

/// What planes need to know of a q8 matrix: 8192 Σ w of each segment of each row, [R'/4, segments].
pub fn offsets(matrix: &Matrix, image: &[u8]) -> Vec<[i32; GROUP]> {
    let w = Weights::new(matrix, image);
    let groups = 0..matrix.n_rows_padded() / GROUP;
    groups.flat_map(|g| bytes::offsets(w.group(g))).collect()
}

/// Memory for one group of rows in the form in which they are multiplied with many rows of x.
#[derive(Default)]
pub struct Widened {
    /// [K'/4], for fp16
    f32s: Vec<[[f32; 4]; GROUP]>,
    /// [K'/8], for q8
    words: Vec<[[i16; 8]; GROUP]>,
}

/// Computes the rows of `groups` for every row of `x`, which is in the form of `w`. It calls `put(group, t, y)` with the
/// four rows of a group for row `t` of x.
pub fn product(
    w: &Weights,
    x: &Inputs,
    widened: &mut Widened,
    groups: Range<usize>,
    mut put: impl FnMut(usize, usize, F32x4),
) {
    let (form, n_tokens) = (w.form(), x.n_tokens());
    for g in groups {
        let (bias, scale) = (w.bias(g), w.scale(g));
        let mut put = |t, y: F32x4| put(g, t, y.madd(scale * F32x4::splat(x.scale(form, t)), bias));
        match form {
            Form::Floats if w.dtype == Dtype::Fp16 && n_tokens > 1 => floats::widen(w.group(g), &mut widened.f32s),
            // for two, widening them on the way takes less time
            Form::Words if n_tokens > 2 => bytes::widen(w.group(g), &mut widened.words),
            _ => {}
        }
        let mut first = 0;
        while first < n_tokens {
            let n = x.tile(form, first);
            if n == 1 {
                put(first, dot_one(w, x, g, first));
            } else {
                let [a, b] = dot_two(w, widened, x, g, first);
                put(first, a);
                put(first + 1, b);
            }
            first += n;
        }
    }
}

/// A group of rows times one row of x.
///
/// This and the next one must stay functions of their own. A browser assigns registers function by function; if these
/// were inlined into a whole pass, too few registers would be left and the sums would be kept in memory. They are also
/// too large for a browser to inline.
#[inline(never)]
fn dot_one(w: &Weights, x: &Inputs, g: usize, t: usize) -> F32x4 {
    let [y] = match w.form() {
        Form::Floats if w.dtype == Dtype::Fp16 => floats::dot_f16(w.group(g), x.f32s(t)),
        Form::Floats => floats::dot_f32(w.group(g), x.f32s(t)),
        Form::Words => bytes::dot_words(w.group(g), x.words(t)),
        Form::Planes => [bytes::dot_planes(w.group(g), x.planes(t), w.group_offsets(g))],
        Form::Blocks => nibbles::dot_blocks(w.group(g), w.group_scales(g), x.blocks(t)),
    };
    y
}

/// A group of rows times a tile of two.
#[inline(never)]
fn dot_two(w: &Weights, widened: &Widened, x: &Inputs, g: usize, first: usize) -> [F32x4; 2] {
    match w.form() {
        Form::Floats if w.dtype == Dtype::Fp16 => floats::dot_widened(&widened.f32s, x.f32s(first)),
        Form::Floats => floats::dot_f32(w.group(g), x.f32s(first)),
        Form::Words if x.n_tokens() > 2 => bytes::dot_wide(&widened.words, x.words(first)),
        Form::Words => bytes::dot_words(w.group(g), x.words(first)),
        Form::Planes => [first, first + 1].map(|t| dot_one(w, x, g, t)),
        Form::Blocks => nibbles::dot_blocks(w.group(g), w.group_scales(g), x.blocks(first)),
    }
}
