//! fp32 and fp16, multiplied as f32. Each row's sum is that of four lanes, each of which adds its terms along k.

use alloc::vec::Vec;

use bytemuck::cast_slice;

use crate::limits::GROUP;
use crate::simd::{Chunk, F32x4, widen_f16};

/// A group of fp32 rows times N vectors. x: [K'/4, N]
#[inline(always)]
pub fn dot_f32<const N: usize>(rows: &[[Chunk; GROUP]], x: &[[[f32; 4]; N]]) -> [F32x4; N] {
    dot_widened(cast_slice(rows), x)
}

/// A group of fp16 rows times one vector, straight from the image. x: [K'/4]
#[inline(always)]
pub fn dot_f16(rows: &[[Chunk; GROUP]], x: &[[[f32; 4]; 1]]) -> [F32x4; 1] {
    let mut sums = [F32x4::splat(0.0); GROUP];
    for (chunks, [[a], [b]]) in rows.iter().zip(x.as_chunks::<2>().0) {
        let x = [a, b].map(F32x4::load);
        for (sum, chunk) in sums.iter_mut().zip(chunks) {
            let [low, high] = widen_f16(chunk);
            *sum = high.madd(x[1], low.madd(x[0], *sum));
        }
    }
    [F32x4::sums(sums)]
}

/// A group of rows that are f32 already times N vectors. x: [K'/4, N]
#[inline(always)]
pub fn dot_widened<const N: usize>(rows: &[[[f32; 4]; GROUP]], x: &[[[f32; 4]; N]]) -> [F32x4; N] {
    let mut sums = [[F32x4::splat(0.0); GROUP]; N];
    for (row, x) in rows.iter().zip(x) {
        let x = x.each_ref().map(F32x4::load);
        for (i, w) in row.iter().enumerate() {
            let w = F32x4::load(w);
            for t in 0..N {
                sums[t][i] = w.madd(x[t], sums[t][i]);
            }
        }
    }
    sums.map(F32x4::sums)
}

/// A group of fp16 rows as f32. into: [K'/4]
pub fn widen(rows: &[[Chunk; GROUP]], into: &mut Vec<[[f32; 4]; GROUP]>) {
    into.resize(rows.len() * 2, [[0.0; 4]; GROUP]);
    for (chunks, into) in rows.iter().zip(into.as_chunks_mut::<2>().0) {
        for (i, chunk) in chunks.iter().enumerate() {
            let [low, high] = widen_f16(chunk);
            low.store(&mut into[0][i]);
            high.store(&mut into[1][i]);
        }
    }
}
