//! The four number formats of packed weights, their formulas, and the way from f32 to each and back.
//!
//! | dtype | stored | value | error of a row with largest magnitude m |
//! |---|---|---|---|
//! | fp32 | q: f32 | q | none |
//! | fp16 | q: half, s: f32 a power of two per row | s · q | 2⁻¹¹ of the value, and at most m · 2⁻²⁸ |
//! | q8 | q: i8 in ±127, s = m / 127 per row | s · q | m / 254 |
//! | q4 | q: 4 bits in -8..8, b: half per 32 columns, s: f32 a power of two per row | s · b · q | about m₃₂ / 16, m₃₂ being the largest of the 32 |
//!
//! Four rows are stored together, 16 bytes of each row in turn. A product thus reads the matrix from its first byte to
//! its last and ends with the sums of four rows in one vector.

use half::f16;

use crate::limits::{BLOCK, GROUP};
use crate::simd::{Chunk, F32x4, each_nearest};

/// How the numbers of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Dtype {
    /// 32-bit float
    Fp32,
    /// 16-bit float, a scale per row
    Fp16,
    /// 8-bit integer, a scale per row
    Q8,
    /// 4-bit integer, a scale per 32 columns
    Q4,
}

impl Dtype {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::Q8, Self::Q4];

    /// Its name as a value of the option `dtype`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// How many values a chunk of 16 bytes holds.
    pub const fn chunk_values(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 => 8,
            Self::Q8 => 16,
            Self::Q4 => 32,
        }
    }
}

/// Packs row `row` of a group of four. values: \[K\]; quants: the whole group; block_scales: `[K'/32][4]`, empty but
/// for q4. → the row's scale (1 for fp32)
///
/// fp32 keeps every value. In the other formats an infinity becomes the largest number that the row can hold, and a NaN
/// becomes 0.
pub fn pack_row(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    quants: &mut [Chunk],
    block_scales: &mut [[u16; GROUP]],
) -> f32 {
    let chunks = quants.iter_mut().skip(row).step_by(GROUP);
    let pieces = values.chunks(dtype.chunk_values());
    let largest = values.iter().filter(|x| x.is_finite()).fold(0.0, |m: f32, x| m.max(x.abs()));
    match dtype {
        Dtype::Fp32 => {
            for (chunk, piece) in chunks.zip(pieces) {
                for (bytes, x) in chunk.as_chunks_mut::<4>().0.iter_mut().zip(piece) {
                    *bytes = x.to_le_bytes();
                }
            }
            1.0
        }
        Dtype::Fp16 => {
            let (scale, inverse) = power_of_two_scale(largest);
            for (chunk, piece) in chunks.zip(pieces) {
                for (bytes, x) in chunk.as_chunks_mut::<2>().0.iter_mut().zip(piece) {
                    *bytes = normal_half(x * inverse).to_bits().to_le_bytes();
                }
            }
            scale
        }
        Dtype::Q8 => {
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            // if all values are subnormal, the inverse is beyond f32: such a row is stored as zeros
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            for (chunk, piece) in chunks.zip(pieces) {
                each_nearest(piece, inverse, |i, q| chunk[i] = q.clamp(-127, 127) as i8 as u8);
            }
            if inverse == 0.0 { 0.0 } else { largest / 127.0 }
        }
        Dtype::Q4 => {
            let (scale, inverse) = power_of_two_scale(largest);
            for ((chunk, piece), scales) in chunks.zip(pieces).zip(block_scales) {
                let mut block = [0.0; BLOCK];
                for (b, x) in block.iter_mut().zip(piece) {
                    let x = x * inverse;
                    *b = if x.is_nan() { 0.0 } else { x.clamp(-65504.0, 65504.0) };
                }
                let block_scale = best_block_scale(&block);
                scales[row] = block_scale.to_bits();
                let mut nibbles = [0; BLOCK];
                each_nearest(&block, inverse_of(block_scale), |i, q| nibbles[i] = (q.clamp(-8, 7) + 8) as u8);
                for (i, byte) in chunk.iter_mut().enumerate() {
                    *byte = nibbles[i] | nibbles[BLOCK / 2 + i] << 4;
                }
            }
            scale
        }
    }
}

/// Unpacks row `row` of a group of four: the inverse of [`pack_row`]. values: \[K\]
pub fn unpack_row(
    dtype: Dtype,
    quants: &[Chunk],
    block_scales: &[[u16; GROUP]],
    row_scale: f32,
    row: usize,
    values: &mut [f32],
) {
    let chunks = quants.iter().skip(row).step_by(GROUP);
    let pieces = values.chunks_mut(dtype.chunk_values());
    for (i, (chunk, piece)) in chunks.zip(pieces).enumerate() {
        for (j, x) in piece.iter_mut().enumerate() {
            *x = match dtype {
                Dtype::Fp32 => f32::from_le_bytes([chunk[4 * j], chunk[4 * j + 1], chunk[4 * j + 2], chunk[4 * j + 3]]),
                Dtype::Fp16 => row_scale * f16::from_le_bytes([chunk[2 * j], chunk[2 * j + 1]]).to_f32(),
                Dtype::Q8 => row_scale * f32::from(chunk[j] as i8),
                Dtype::Q4 => {
                    let half = BLOCK / 2;
                    let q = if j < half { chunk[j] & 15 } else { chunk[j - half] >> 4 };
                    row_scale * (f16::from_bits(block_scales[i][row]).to_f32() * f32::from(q as i8 - 8))
                }
            };
        }
    }
}

/// The scale of a row in halves, a power of two, and its inverse, which brings `largest` into [2¹⁴, 2¹⁵). There it is
/// far from the smallest normal half, so that small values of the row keep their precision.
fn power_of_two_scale(largest: f32) -> (f32, f32) {
    let exponent = (largest.to_bits() >> 23) as i32 - 127; // of 0 and subnormals: -127
    let exponent = exponent.clamp(-100, 127) - 14;
    (libm::ldexpf(1.0, exponent), libm::ldexpf(1.0, -exponent))
}

/// The nearest half. What would be a subnormal half becomes 0, because the kernels widen a half by shifting its bits,
/// which is right for normal numbers and zero only.
fn normal_half(x: f32) -> f16 {
    let h = f16::from_f32(if x.is_nan() { 0.0 } else { x.clamp(-65504.0, 65504.0) });
    if h.to_f32().abs() < f16::MIN_POSITIVE.to_f32() { f16::ZERO } else { h }
}

/// 1 / scale, or 0 for a block of zeros.
fn inverse_of(scale: f16) -> f32 {
    if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() }
}

/// Tries several scales and returns the one with the least squared error. They lie around the two obvious ones: the
/// value of largest magnitude becomes -8 (which uses all 16 numbers; llama.cpp's Q4_0), or it becomes ±7.
fn best_block_scale(block: &[f32; BLOCK]) -> f16 {
    let largest = block.iter().fold(0.0, |m: f32, &x| if x.abs() > m.abs() { x } else { m });
    let mut best = (f32::INFINITY, f16::ZERO);
    for divisor in [-8.0, -8.5, -7.5, -9.0, 7.0, 7.5, 6.5, 8.0] {
        let scale = normal_half(largest / divisor);
        let (step, inverse) = (F32x4::splat(scale.to_f32()), F32x4::splat(inverse_of(scale)));
        let squares = block.as_chunks().0.iter().map(F32x4::load).fold(F32x4::splat(0.0), |sum, x| {
            let q = (x * inverse).nearest().max(F32x4::splat(-8.0)).min(F32x4::splat(7.0));
            let e = x - step * q;
            e.madd(e, sum)
        });
        let error = squares.lanes().into_iter().sum();
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}
