//! q8, multiplied as integers. The sum of a segment of a row is exact, whatever computes it; it becomes an f32, and the
//! segments are added in their order.

use alloc::vec::Vec;

use crate::limits::{GROUP, SEGMENT};
use crate::simd::{Chunk, F32x4, I16x8, I32x4, dot_bytes, widen_i8};

/// Chunks of a segment.
const CHUNKS: usize = SEGMENT / 16;

/// A group of rows times N vectors, straight from the image. x: [K'/8, N]
#[inline(always)]
pub fn dot_words<const N: usize>(rows: &[[Chunk; GROUP]], x: &[[[i16; 8]; N]]) -> [F32x4; N] {
    let mut ys = [F32x4::splat(0.0); N];
    for (rows, x) in rows.chunks(CHUNKS).zip(x.chunks(2 * CHUNKS)) {
        let mut sums = [[I32x4::zero(); GROUP]; N];
        for (chunks, [x_low, x_high]) in rows.iter().zip(x.as_chunks().0) {
            let (x_low, x_high) = (x_low.each_ref().map(I16x8::load), x_high.each_ref().map(I16x8::load));
            for (i, chunk) in chunks.iter().enumerate() {
                let [low, high] = widen_i8(chunk);
                for t in 0..N {
                    sums[t][i] = sums[t][i] + low.dot(x_low[t]) + high.dot(x_high[t]);
                }
            }
        }
        end_segment(&mut ys, sums);
    }
    ys
}

/// A group of rows that are i16 already times N vectors. wide: [K'/8]; x: [K'/8, N]
#[inline(always)]
pub fn dot_wide<const N: usize>(wide: &[[[i16; 8]; GROUP]], x: &[[[i16; 8]; N]]) -> [F32x4; N] {
    let mut ys = [F32x4::splat(0.0); N];
    for (wide, x) in wide.chunks(2 * CHUNKS).zip(x.chunks(2 * CHUNKS)) {
        let mut sums = [[I32x4::zero(); GROUP]; N];
        for (row, x) in wide.iter().zip(x) {
            let x = x.each_ref().map(I16x8::load);
            for (i, w) in row.iter().enumerate() {
                let w = I16x8::load(w);
                for t in 0..N {
                    sums[t][i] = sums[t][i] + w.dot(x[t]);
                }
            }
        }
        end_segment(&mut ys, sums);
    }
    ys
}

#[inline(always)]
fn end_segment<const N: usize>(ys: &mut [F32x4; N], sums: [[I32x4; GROUP]; N]) {
    for (y, sums) in ys.iter_mut().zip(sums) {
        *y = *y + I32x4::sums(sums).to_f32();
    }
}

/// A group of rows as i16. into: [K'/8]
pub fn widen(rows: &[[Chunk; GROUP]], into: &mut Vec<[[i16; 8]; GROUP]>) {
    into.resize(rows.len() * 2, [[0; 8]; GROUP]);
    for (chunks, into) in rows.iter().zip(into.as_chunks_mut::<2>().0) {
        for (i, chunk) in chunks.iter().enumerate() {
            let [low, high] = widen_i8(chunk);
            low.store(&mut into[0][i]);
            high.store(&mut into[1][i]);
        }
    }
}

/// A group of rows times one vector in two planes. x: [K'/16]; offsets: 8192 Σ w of each segment and row
#[inline(always)]
pub fn dot_planes(rows: &[[Chunk; GROUP]], x: &[[Chunk; 2]], offsets: &[[i32; GROUP]]) -> F32x4 {
    let mut y = F32x4::splat(0.0);
    for ((rows, x), offset) in rows.chunks(CHUNKS).zip(x.chunks(CHUNKS)).zip(offsets) {
        let mut sums = [[I32x4::zero(); GROUP]; 2];
        for (chunks, [h, l]) in rows.iter().zip(x) {
            for (i, chunk) in chunks.iter().enumerate() {
                sums[0][i] = dot_bytes(chunk, h, sums[0][i]);
                sums[1][i] = dot_bytes(chunk, l, sums[1][i]);
            }
        }
        // modulo 2³² on the way, which the exact sum fits
        let [h, l] = sums.map(I32x4::sums);
        y = y + (h.times_128() + l - I32x4::load(offset)).to_f32();
    }
    y
}

/// 8192 Σ w of each segment of a group's rows.
pub fn offsets(rows: &[[Chunk; GROUP]]) -> impl Iterator<Item = [i32; GROUP]> {
    let ones = [1; 16];
    rows.chunks(CHUNKS).map(move |rows| {
        let sum = |i: usize| rows.iter().fold(I32x4::zero(), |sum, chunks| dot_bytes(&chunks[i], &ones, sum));
        I32x4::sums(core::array::from_fn(sum)).lanes().map(|sum| 8192 * sum)
    })
}
