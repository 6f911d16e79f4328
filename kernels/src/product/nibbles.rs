//! q4, multiplied as integers. The sum of a block of 32 is exact, whatever computes it; it becomes an f32, is scaled,
//! and the blocks are added in their order.

use crate::inputs::BlockTerms;
use crate::limits::GROUP;
use crate::simd::{Chunk, F32x4, I32x4, NibbleX, Nibbles, widen_halves};

/// A group of rows times N vectors. scales: [K'/32]; x: [K'/32, N]
#[inline(always)]
pub fn dot_blocks<const N: usize>(
    rows: &[[Chunk; GROUP]],
    scales: &[[u16; GROUP]],
    (x, terms): (&[[NibbleX; N]], &[[BlockTerms; N]]),
) -> [F32x4; N] {
    let mut sums = [F32x4::splat(0.0); N];
    for (((chunks, scales), x), terms) in rows.iter().zip(scales).zip(x).zip(terms) {
        // row by row, because the numbers of all four at once would not stay in registers
        let products = chunks.each_ref().map(|chunk| {
            let nibbles = Nibbles::load(chunk);
            x.each_ref().map(|x| nibbles.dot(x))
        });
        let scales = widen_halves(scales);
        for t in 0..N {
            let sum = Nibbles::sums(products.map(|row| row[t])) + I32x4::splat(terms[t].offset);
            sums[t] = sum.to_f32().madd(scales * F32x4::splat(terms[t].scale), sums[t]);
        }
    }
    sums
}
