//! y = W x + bias for one token or many, from packed weights. This is where the time goes.
//!
//! For one token, every weight is read once, straight from the packed image; the memory's speed is the limit. For many
//! tokens, each group of four rows is widened once into memory that fits the first-level cache, and multiplied with all
//! tokens; arithmetic is the limit. fp32 and fp16 are multiplied as f32. q8 and q4 are multiplied as integers, with x
//! as i16 (see [`Inputs`]), so precise that nearly all of the error comes from the weights' format.

use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::cast_slice;

use crate::format::Dtype;
use crate::inputs::{Inputs, TILE};
use crate::layout::Matrix;
use crate::limits::{BLOCK, GROUP};
use crate::simd::{
    Chunk, F16_SCALE, F32x4, I16x8, I32x4, dot_nibbles, widen_f16, widen_halves, widen_i8, widen_nibbles,
};

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
        }
    }

    fn group(&self, group: usize) -> &'a [[Chunk; GROUP]] {
        self.quants[group * self.group_chunks..][..self.group_chunks].as_chunks().0
    }

    fn group_scales(&self, group: usize) -> &'a [[u16; GROUP]] {
        let n = self.group_chunks / GROUP; // q4: one chunk of each row is one block
        &self.block_scales[group * n..][..n]
    }

    fn row_scale(&self, group: usize) -> F32x4 {
        F32x4::load(&self.row_scales[group])
    }

    /// The factor of each row's sum, without the scale of x.
    fn scale(&self, group: usize) -> F32x4 {
        match self.dtype {
            Dtype::Fp32 => F32x4::splat(1.0),
            // widened halves are too small by this factor
            Dtype::Fp16 | Dtype::Q4 => self.row_scale(group) * F32x4::splat(F16_SCALE),
            Dtype::Q8 => self.row_scale(group),
        }
    }

    fn is_integer(&self) -> bool {
        matches!(self.dtype, Dtype::Q8 | Dtype::Q4)
    }

    fn bias(&self, group: usize) -> F32x4 {
        self.bias.get(group).map_or(F32x4::splat(0.0), F32x4::load)
    }
}

/// Memory for one group of rows, widened to f32 or i16.
#[derive(Default)]
pub struct Widened {
    /// [K'/4], for fp16
    f32s: Vec<[[f32; 4]; GROUP]>,
    /// [K'/8], for q8 and q4
    i16s: Vec<[[i16; 8]; GROUP]>,
}

/// Computes the rows of `groups` for every token of `x`. It calls `put(group, token, y)` with the four rows of a group
/// for one token.
pub fn product(
    w: &Weights,
    x: &Inputs,
    widened: &mut Widened,
    groups: Range<usize>,
    mut put: impl FnMut(usize, usize, F32x4),
) {
    let x_scale = |t| F32x4::splat(if w.is_integer() { x.scale(t) } else { 1.0 });
    if x.n_tokens() == 1 {
        for g in groups {
            put(g, 0, dot_one(w, x, g).madd(w.scale(g) * x_scale(0), w.bias(g)));
        }
        return;
    }
    for g in groups {
        match w.dtype {
            Dtype::Fp32 => {}
            Dtype::Fp16 => widen_f16s(w.group(g), &mut widened.f32s),
            Dtype::Q8 => widen_i8s(w.group(g), &mut widened.i16s),
            Dtype::Q4 => widen_i4s(w.group(g), &mut widened.i16s),
        }
        let (bias, scale) = (w.bias(g), w.scale(g));
        for first in (0..x.n_tokens()).step_by(TILE) {
            let ys = dot_tile(w, widened, x, g, first / TILE);
            for (t, y) in (first..x.n_tokens()).zip(ys) {
                put(g, t, y.madd(scale * x_scale(t), bias));
            }
        }
    }
}

/// A group of rows times the only token.
///
/// This and [`dot_tile`] must stay functions of their own. A browser assigns registers function by function; if these
/// were inlined into a whole pass, too few registers would be left and the sums would be kept in memory. They are also
/// too large for a browser to inline.
#[inline(never)]
fn dot_one(w: &Weights, x: &Inputs, g: usize) -> F32x4 {
    match w.dtype {
        Dtype::Fp32 => dot_f32(w.group(g), x.f32s()),
        Dtype::Fp16 => dot_f16(w.group(g), x.f32s()),
        Dtype::Q8 => dot_q8(w.group(g), x.i16s()),
        Dtype::Q4 => dot_q4(w.group(g), w.group_scales(g), x.i16s(), x.block_offsets()),
    }
}

/// A group of rows, widened where it is not stored as f32, times a tile of tokens.
#[inline(never)]
fn dot_tile(w: &Weights, widened: &Widened, x: &Inputs, g: usize, tile: usize) -> Tile {
    match w.dtype {
        Dtype::Fp32 => dot_f32s(cast_slice(w.group(g)), x.f32_tile(tile)),
        Dtype::Fp16 => dot_f32s(&widened.f32s, x.f32_tile(tile)),
        Dtype::Q8 => dot_i16s(&widened.i16s, x.i16_tile(tile)),
        Dtype::Q4 => dot_i16_blocks(&widened.i16s, w.group_scales(g), x.i16_tile(tile)),
    }
}

/// Sums of four rows, one in each lane, for each token of a tile.
type Tile = [F32x4; TILE];

// ---- one token, from the packed image

#[inline(always)]
fn dot_f32(rows: &[[Chunk; GROUP]], x: &[[f32; 4]]) -> F32x4 {
    let rows: &[[[f32; 4]; GROUP]] = cast_slice(rows);
    let mut sums = [F32x4::splat(0.0); GROUP];
    for (row, x) in rows.iter().zip(x) {
        let x = F32x4::load(x);
        for (sum, w) in sums.iter_mut().zip(row) {
            *sum = F32x4::load(w).madd(x, *sum);
        }
    }
    F32x4::sums(sums)
}

#[inline(always)]
fn dot_f16(rows: &[[Chunk; GROUP]], x: &[[f32; 4]]) -> F32x4 {
    let mut sums = [F32x4::splat(0.0); GROUP];
    for (chunks, x) in rows.iter().zip(x.as_chunks::<2>().0) {
        let x = x.each_ref().map(F32x4::load);
        for (sum, chunk) in sums.iter_mut().zip(chunks) {
            let [low, high] = widen_f16(chunk);
            *sum = high.madd(x[1], low.madd(x[0], *sum));
        }
    }
    F32x4::sums(sums)
}

#[inline(always)]
fn dot_q8(rows: &[[Chunk; GROUP]], x: &[[i16; 8]]) -> F32x4 {
    let mut sums = [I32x4::zero(); GROUP];
    for (chunks, x) in rows.iter().zip(x.as_chunks::<2>().0) {
        let x = x.each_ref().map(I16x8::load);
        for (sum, chunk) in sums.iter_mut().zip(chunks) {
            let [low, high] = widen_i8(chunk);
            *sum = *sum + low.dot(x[0]) + high.dot(x[1]);
        }
    }
    F32x4::sums(sums.map(I32x4::to_f32))
}

#[inline(always)]
fn dot_q4(rows: &[[Chunk; GROUP]], scales: &[[u16; GROUP]], x: &[[i16; 8]], offsets: &[i32]) -> F32x4 {
    let mut sums = [F32x4::splat(0.0); GROUP];
    for (((chunks, scales), x), offset) in rows.iter().zip(scales).zip(x.as_chunks::<4>().0).zip(offsets) {
        let (x, offset) = (x.each_ref().map(I16x8::load), I32x4::first(*offset));
        for ((sum, chunk), scale) in sums.iter_mut().zip(chunks).zip(widen_halves(scales).spread()) {
            *sum = (dot_nibbles(chunk, &x) + offset).to_f32().madd(scale, *sum);
        }
    }
    F32x4::sums(sums)
}

// ---- many tokens, from a widened group

#[inline(always)]
fn dot_f32s(rows: &[[[f32; 4]; GROUP]], x: &[[[f32; 4]; TILE]]) -> Tile {
    let mut sums = [[F32x4::splat(0.0); GROUP]; TILE];
    for (row, x) in rows.iter().zip(x) {
        let x = x.each_ref().map(F32x4::load);
        for (i, w) in row.iter().enumerate() {
            let w = F32x4::load(w);
            for t in 0..TILE {
                sums[t][i] = w.madd(x[t], sums[t][i]);
            }
        }
    }
    sums.map(F32x4::sums)
}

#[inline(always)]
fn dot_i16s(rows: &[[[i16; 8]; GROUP]], x: &[[[i16; 8]; TILE]]) -> Tile {
    let mut sums = [[I32x4::zero(); GROUP]; TILE];
    for (row, x) in rows.iter().zip(x) {
        let x = x.each_ref().map(I16x8::load);
        for (i, w) in row.iter().enumerate() {
            let w = I16x8::load(w);
            for t in 0..TILE {
                sums[t][i] = sums[t][i] + w.dot(x[t]);
            }
        }
    }
    sums.map(|sums| F32x4::sums(sums.map(I32x4::to_f32)))
}

/// As [`dot_i16s`], with a scale per row and block.
#[inline(always)]
fn dot_i16_blocks(rows: &[[[i16; 8]; GROUP]], scales: &[[u16; GROUP]], x: &[[[i16; 8]; TILE]]) -> Tile {
    const N: usize = BLOCK / 8;
    let mut sums = [[F32x4::splat(0.0); GROUP]; TILE];
    for ((rows, x), scales) in rows.as_chunks::<N>().0.iter().zip(x.as_chunks::<N>().0).zip(scales) {
        for (i, scale) in widen_halves(scales).spread().into_iter().enumerate() {
            let w = rows.each_ref().map(|row| I16x8::load(&row[i]));
            for t in 0..TILE {
                let dot = |n: usize| w[n].dot(I16x8::load(&x[n][t]));
                let dots = (dot(0) + dot(1)) + (dot(2) + dot(3));
                sums[t][i] = dots.to_f32().madd(scale, sums[t][i]);
            }
        }
    }
    sums.map(F32x4::sums)
}

// ---- widening

fn widen_f16s(rows: &[[Chunk; GROUP]], into: &mut Vec<[[f32; 4]; GROUP]>) {
    into.resize(rows.len() * 2, [[0.0; 4]; GROUP]);
    for (chunks, into) in rows.iter().zip(into.as_chunks_mut::<2>().0) {
        for (i, chunk) in chunks.iter().enumerate() {
            let [low, high] = widen_f16(chunk);
            low.store(&mut into[0][i]);
            high.store(&mut into[1][i]);
        }
    }
}

fn widen_i8s(rows: &[[Chunk; GROUP]], into: &mut Vec<[[i16; 8]; GROUP]>) {
    into.resize(rows.len() * 2, [[0; 8]; GROUP]);
    for (chunks, into) in rows.iter().zip(into.as_chunks_mut::<2>().0) {
        for (i, chunk) in chunks.iter().enumerate() {
            let [low, high] = widen_i8(chunk);
            low.store(&mut into[0][i]);
            high.store(&mut into[1][i]);
        }
    }
}

fn widen_i4s(rows: &[[Chunk; GROUP]], into: &mut Vec<[[i16; 8]; GROUP]>) {
    into.resize(rows.len() * 4, [[0; 8]; GROUP]);
    for (chunks, into) in rows.iter().zip(into.as_chunks_mut::<4>().0) {
        for (i, chunk) in chunks.iter().enumerate() {
            for (piece, into) in widen_nibbles(chunk).into_iter().zip(into.iter_mut()) {
                piece.store(&mut into[i]);
            }
        }
    }
}
