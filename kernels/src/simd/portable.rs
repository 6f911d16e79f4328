//! The vector operations on plain arrays. One of them, `I16x8::dot`, is written for x86-64 by hand, because compilers
//! do not find its instruction by themselves.

use core::array;
use core::ops::{Add, Div, Mul, Sub};

use super::chunk::Chunk;

/// Four f32.
#[derive(Clone, Copy)]
pub struct F32x4([f32; 4]);
/// Four i32.
#[derive(Clone, Copy)]
pub struct I32x4([i32; 4]);
/// Eight i16.
#[derive(Clone, Copy)]
pub struct I16x8([i16; 8]);

macro_rules! operator {
    ($trait:ident, $method:ident, $type:ident, $op:expr) => {
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(array::from_fn(|i| $op(self.0[i], other.0[i])))
            }
        }
    };
}
operator!(Add, add, F32x4, |a: f32, b: f32| a + b);
operator!(Sub, sub, F32x4, |a: f32, b: f32| a - b);
operator!(Mul, mul, F32x4, |a: f32, b: f32| a * b);
operator!(Div, div, F32x4, |a: f32, b: f32| a / b);
operator!(Add, add, I32x4, i32::wrapping_add);
operator!(Sub, sub, I32x4, i32::wrapping_sub);

impl F32x4 {
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[f32; 4]) -> Self {
        Self(*x)
    }

    /// Stores to memory.
    #[inline(always)]
    pub fn store(self, x: &mut [f32; 4]) {
        *x = self.0;
    }

    /// The four numbers.
    #[inline(always)]
    pub fn lanes(self) -> [f32; 4] {
        let mut lanes = [0.0; 4];
        self.store(&mut lanes);
        lanes
    }

    /// self · b + c
    #[inline(always)]
    pub fn madd(self, b: Self, c: Self) -> Self {
        self * b + c
    }

    /// The greater of each lane.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(array::from_fn(|i| if other.0[i] < self.0[i] { self.0[i] } else { other.0[i] }))
    }

    /// The lesser of each lane.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(array::from_fn(|i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
    }

    /// Magnitudes.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() & 0x7fff_ffff)))
    }

    /// The magnitudes of `self` with the signs of `sign`.
    #[inline(always)]
    pub fn copy_sign(self, sign: Self) -> Self {
        Self(array::from_fn(|i| libm::copysignf(self.0[i], sign.0[i])))
    }

    /// The nearest whole numbers.
    #[inline(always)]
    pub fn nearest(self) -> Self {
        Self(self.0.map(libm::rintf))
    }

    /// The bits of each lane.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(self.0.map(|x| x.to_bits() as i32))
    }

    /// Four vectors, the i-th of which holds lane i in every lane.
    #[inline(always)]
    pub fn spread(self) -> [Self; 4] {
        self.0.map(Self::splat)
    }

    /// Lane i of the result is the sum of `rows[i]`.
    #[inline(always)]
    pub fn sums(rows: [Self; 4]) -> Self {
        Self(rows.map(|Self([a, b, c, d])| (a + c) + (b + d)))
    }
}

impl I32x4 {
    /// Four zeros.
    #[inline(always)]
    pub fn zero() -> Self {
        Self([0; 4])
    }

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i32) -> Self {
        Self([x; 4])
    }

    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[i32; 4]) -> Self {
        Self(*x)
    }

    /// 128 times each lane.
    #[inline(always)]
    pub fn times_128(self) -> Self {
        Self(self.0.map(|x| x.wrapping_shl(7)))
    }

    /// Lane i of the result is the sum of `rows[i]`, modulo 2³².
    #[inline(always)]
    pub fn sums(rows: [Self; 4]) -> Self {
        Self(rows.map(|Self(row)| row.into_iter().fold(0, i32::wrapping_add)))
    }

    /// The four numbers.
    #[inline(always)]
    pub fn lanes(self) -> [i32; 4] {
        self.0
    }

    /// The same numbers as f32.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(self.0.map(|x| x as f32))
    }

    /// 2ⁿ of each lane, -126 ≤ n ≤ 127.
    #[inline(always)]
    pub fn power_of_two(self) -> F32x4 {
        F32x4(self.0.map(|n| f32::from_bits((n.wrapping_add(127) as u32) << 23)))
    }

    /// Two times four as eight i16; values beyond an i16 become its smallest or largest.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        let limit = |x: i32| x.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        I16x8(array::from_fn(|i| limit(if i < 4 { self.0[i] } else { high.0[i - 4] })))
    }
}

impl I16x8 {
    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[i16; 8]) -> Self {
        Self(*x)
    }

    /// Stores to memory.
    #[inline(always)]
    pub fn store(self, x: &mut [i16; 8]) {
        *x = self.0;
    }

    /// The eight numbers.
    #[inline(always)]
    pub fn stored(self) -> [i16; 8] {
        self.0
    }

    /// The same pair four times.
    #[inline(always)]
    pub fn splat_pair(pair: [i16; 2]) -> Self {
        Self(array::from_fn(|i| pair[i % 2]))
    }

    /// Lane i: `self[2i] · other[2i] + self[2i + 1] · other[2i + 1]`
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        use core::arch::x86_64::{__m128i, _mm_madd_epi16};
        // the speed of q8 and q4 depends on this instruction
        let (a, b): (__m128i, __m128i) = (bytemuck::cast(self.0), bytemuck::cast(other.0));
        // SAFETY: SSE2 is a part of x86-64
        I32x4(bytemuck::cast(unsafe { _mm_madd_epi16(a, b) }))
    }

    /// Lane i: `self[2i] · other[2i] + self[2i + 1] · other[2i + 1]`
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        let product = |i: usize| i32::from(self.0[i]) * i32::from(other.0[i]);
        I32x4(array::from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
    }
}

/// Sixteen i8 as i16.
#[inline(always)]
pub fn widen_i8(chunk: &Chunk) -> [I16x8; 2] {
    array::from_fn(|half| I16x8(array::from_fn(|i| i16::from(chunk[8 * half + i] as i8))))
}

/// The product of sixteen i8 with as many numbers in 0..128, added to `sum`. Which four products a lane adds is up to
/// the platform; the four lanes together are what counts.
#[inline(always)]
pub fn dot_bytes(bytes: &Chunk, x: &Chunk, sum: I32x4) -> I32x4 {
    let ([low, high], [x_low, x_high]) = (widen_i8(bytes), widen_i8(x));
    sum + low.dot(x_low) + high.dot(x_high)
}

/// Sixteen numbers within ±8191 as 128 h + l - 8192. → h and l, which are in 0..128
#[inline(always)]
pub fn planes(low: I16x8, high: I16x8) -> [Chunk; 2] {
    // what is not finite becomes any number, whose scale is NaN
    let x = |i: usize| if i < 8 { low.0[i] } else { high.0[i - 8] }.wrapping_add(8192);
    [array::from_fn(|i| (x(i) >> 7) as u8), array::from_fn(|i| (x(i) & 127) as u8)]
}

/// Thirty-two 4-bit numbers, in the form in which they are multiplied.
#[derive(Clone, Copy)]
pub struct Nibbles([I16x8; 4]);

/// The thirty-two numbers that [`Nibbles`] are multiplied with.
pub type NibbleX = [[i16; 8]; 4];

impl Nibbles {
    /// The numbers that a chunk holds: first the low halves of its bytes, then the high ones.
    #[inline(always)]
    pub fn load(chunk: &Chunk) -> Self {
        let (low, high) = (|i: usize| i16::from(chunk[i] & 15), |i: usize| i16::from(chunk[i] >> 4));
        Self([
            I16x8(array::from_fn(low)),
            I16x8(array::from_fn(|i| low(8 + i))),
            I16x8(array::from_fn(high)),
            I16x8(array::from_fn(|i| high(8 + i))),
        ])
    }

    /// Brings 32 numbers into the form that [`Self::dot`] reads.
    #[inline(always)]
    pub fn x(x: [I16x8; 4]) -> NibbleX {
        x.map(I16x8::stored)
    }

    /// The products with x, in parts that [`Self::sums`] adds up.
    #[inline(always)]
    pub fn dot(self, x: &NibbleX) -> I32x4 {
        let dot = |i: usize| self.0[i].dot(I16x8::load(&x[i]));
        (dot(0) + dot(1)) + (dot(2) + dot(3))
    }

    /// Lane i of the result is the sum of `rows[i]`.
    #[inline(always)]
    pub fn sums(rows: [I32x4; 4]) -> I32x4 {
        I32x4::sums(rows)
    }
}

/// Eight halves, each divided by [`super::F16_SCALE`]; right for zero and normal halves only.
#[inline(always)]
pub fn widen_f16(chunk: &Chunk) -> [F32x4; 2] {
    let half = |i: usize| u16::from_le_bytes([chunk[2 * i], chunk[2 * i + 1]]);
    [widen_halves(&array::from_fn(half)), widen_halves(&array::from_fn(|i| half(4 + i)))]
}

/// Four halves, each divided by [`super::F16_SCALE`]; right for zero and normal halves only.
#[inline(always)]
pub fn widen_halves(halves: &[u16; 4]) -> F32x4 {
    F32x4(halves.map(|half| f32::from_bits((i32::from(half as i16) << 13) as u32 & 0x8fff_e000)))
}

/// Reads all chunks and does nothing else, to measure the memory's speed. → all of them combined by xor, since the
/// compiler would remove reads whose result is not used
pub fn sweep(chunks: &[Chunk]) -> i32 {
    let mut sums = [0_u128; 8];
    for chunks in chunks.as_chunks::<8>().0 {
        for (sum, chunk) in sums.iter_mut().zip(chunks) {
            *sum ^= u128::from_ne_bytes(*chunk);
        }
    }
    sums.into_iter().fold(0, |a, b| a ^ b) as i32
}
