//! Products of 4-bit numbers as WebAssembly's instructions: with relaxed SIMD of bytes, else of 16-bit numbers.

use core::arch::wasm32::*;

use super::chunk::Chunk;
use super::wasm::{I16x8, I32x4, load};

/// Thirty-two 4-bit numbers, in the form in which they are multiplied: with relaxed SIMD as bytes, because the
/// instruction that multiplies bytes is the fastest.
#[cfg(target_feature = "relaxed-simd")]
#[derive(Clone, Copy)]
pub struct Nibbles([v128; 2]);
/// Thirty-two 4-bit numbers, in the form in which they are multiplied.
#[cfg(not(target_feature = "relaxed-simd"))]
#[derive(Clone, Copy)]
pub struct Nibbles([I16x8; 4]);

/// The thirty-two numbers that [`Nibbles`] are multiplied with.
#[cfg(target_feature = "relaxed-simd")]
pub type NibbleX = [Chunk; 2];
/// The thirty-two numbers that [`Nibbles`] are multiplied with.
#[cfg(not(target_feature = "relaxed-simd"))]
pub type NibbleX = [[i16; 8]; 4];

/// A product of [`Nibbles`] in parts, which [`Nibbles::sums`] adds up.
#[cfg(target_feature = "relaxed-simd")]
type NibbleSum = I16x8;
/// A product of [`Nibbles`] in parts, which [`Nibbles::sums`] adds up.
#[cfg(not(target_feature = "relaxed-simd"))]
type NibbleSum = I32x4;

#[cfg(target_feature = "relaxed-simd")]
impl Nibbles {
    /// The numbers that a chunk holds: first the low halves of its bytes, then the high ones.
    #[inline(always)]
    pub fn load(chunk: &Chunk) -> Self {
        let bytes = load(chunk);
        Self([v128_and(bytes, u8x16_splat(15)), u8x16_shr(bytes, 4)])
    }

    /// Brings 32 numbers within ±127 into the form that [`Self::dot`] reads.
    #[inline(always)]
    pub fn x(x: [I16x8; 4]) -> NibbleX {
        let pack = |low: I16x8, high: I16x8| {
            let mut into = [0; 16];
            // SAFETY: `into` is 16 writable bytes, and the instruction takes any alignment
            unsafe { v128_store(into.as_mut_ptr().cast(), i8x16_narrow_i16x8(low.0, high.0)) }
            into
        };
        [pack(x[0], x[1]), pack(x[2], x[3])]
    }

    /// The products with x.
    #[inline(always)]
    pub fn dot(self, x: &NibbleX) -> NibbleSum {
        // a lane is at most 4 · 15 · 127 in magnitude
        let dot = |i: usize| i16x8_relaxed_dot_i8x16_i7x16(load(&x[i]), self.0[i]);
        I16x8(i16x8_add(dot(0), dot(1)))
    }

    /// Lane i of the result is the sum of `rows[i]`.
    #[inline(always)]
    pub fn sums(rows: [NibbleSum; 4]) -> I32x4 {
        // a lane is at most 16 · 15 · 127 in magnitude before the last sum, which fits an i16
        let pair = |a: I16x8, b: I16x8| i16x8_add(i64x2_shuffle::<0, 2>(a.0, b.0), i64x2_shuffle::<1, 3>(a.0, b.0));
        let (ab, cd) = (pair(rows[0], rows[1]), pair(rows[2], rows[3]));
        let halves = i16x8_add(i32x4_shuffle::<0, 2, 4, 6>(ab, cd), i32x4_shuffle::<1, 3, 5, 7>(ab, cd));
        I16x8(halves).dot(I16x8(i16x8_splat(1)))
    }
}

#[cfg(not(target_feature = "relaxed-simd"))]
impl Nibbles {
    /// The numbers that a chunk holds: first the low halves of its bytes, then the high ones.
    #[inline(always)]
    pub fn load(chunk: &Chunk) -> Self {
        let bytes = load(chunk);
        let (low, high) = (v128_and(bytes, u8x16_splat(15)), u8x16_shr(bytes, 4));
        Self([
            I16x8(u16x8_extend_low_u8x16(low)),
            I16x8(u16x8_extend_high_u8x16(low)),
            I16x8(u16x8_extend_low_u8x16(high)),
            I16x8(u16x8_extend_high_u8x16(high)),
        ])
    }

    /// Brings 32 numbers into the form that [`Self::dot`] reads.
    #[inline(always)]
    pub fn x(x: [I16x8; 4]) -> NibbleX {
        x.map(I16x8::stored)
    }

    /// The products with x.
    #[inline(always)]
    pub fn dot(self, x: &NibbleX) -> NibbleSum {
        let dot = |i: usize| self.0[i].dot(I16x8::load(&x[i]));
        (dot(0) + dot(1)) + (dot(2) + dot(3))
    }

    /// Lane i of the result is the sum of `rows[i]`.
    #[inline(always)]
    pub fn sums(rows: [NibbleSum; 4]) -> I32x4 {
        I32x4::sums(rows)
    }
}
