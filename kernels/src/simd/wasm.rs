//! The vector operations as WebAssembly's instructions. A module that is built with `relaxed-simd` uses the relaxed
//! multiply-add and the relaxed product of bytes.

use core::arch::wasm32::*;
use core::ops::{Add, Div, Mul, Sub};

use super::chunk::Chunk;

/// Four f32.
#[derive(Clone, Copy)]
pub struct F32x4(pub(super) v128);
/// Four i32.
#[derive(Clone, Copy)]
pub struct I32x4(pub(super) v128);
/// Eight i16.
#[derive(Clone, Copy)]
pub struct I16x8(pub(super) v128);

macro_rules! operator {
    ($trait:ident, $method:ident, $type:ident, $op:ident) => {
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self($op(self.0, other.0))
            }
        }
    };
}
operator!(Add, add, F32x4, f32x4_add);
operator!(Sub, sub, F32x4, f32x4_sub);
operator!(Mul, mul, F32x4, f32x4_mul);
operator!(Div, div, F32x4, f32x4_div);
operator!(Add, add, I32x4, i32x4_add);
operator!(Sub, sub, I32x4, i32x4_sub);

impl F32x4 {
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self(f32x4_splat(x))
    }

    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[f32; 4]) -> Self {
        // SAFETY: `x` is 16 readable bytes, and the instruction takes any alignment
        Self(unsafe { v128_load(x.as_ptr().cast()) })
    }

    /// Stores to memory.
    #[inline(always)]
    pub fn store(self, x: &mut [f32; 4]) {
        // SAFETY: `x` is 16 writable bytes, and the instruction takes any alignment
        unsafe { v128_store(x.as_mut_ptr().cast(), self.0) }
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
        #[cfg(target_feature = "relaxed-simd")]
        return Self(f32x4_relaxed_madd(self.0, b.0, c.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        return self * b + c;
    }

    /// The greater of each lane.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(f32x4_pmax(other.0, self.0))
    }

    /// The lesser of each lane.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(f32x4_pmin(other.0, self.0))
    }

    /// Magnitudes.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(f32x4_abs(self.0))
    }

    /// The magnitudes of `self` with the signs of `sign`.
    #[inline(always)]
    pub fn copy_sign(self, sign: Self) -> Self {
        Self(v128_bitselect(sign.0, self.0, i32x4_splat(i32::MIN)))
    }

    /// The nearest whole numbers.
    #[inline(always)]
    pub fn nearest(self) -> Self {
        Self(f32x4_nearest(self.0))
    }

    /// The bits of each lane.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(self.0)
    }

    /// Four vectors, the i-th of which holds lane i in every lane.
    #[inline(always)]
    pub fn spread(self) -> [Self; 4] {
        let x = self.0;
        [
            Self(i32x4_shuffle::<0, 0, 0, 0>(x, x)),
            Self(i32x4_shuffle::<1, 1, 1, 1>(x, x)),
            Self(i32x4_shuffle::<2, 2, 2, 2>(x, x)),
            Self(i32x4_shuffle::<3, 3, 3, 3>(x, x)),
        ]
    }

    /// Lane i of the result is the sum of `rows[i]`.
    #[inline(always)]
    pub fn sums(rows: [Self; 4]) -> Self {
        let [a, b, c, d] = rows.map(|r| r.0);
        let (ab_low, ab_high) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let (cd_low, cd_high) = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        let ab = f32x4_add(ab_low, ab_high); // [a0+a2, b0+b2, a1+a3, b1+b3]
        let cd = f32x4_add(cd_low, cd_high);
        Self(f32x4_add(i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd)))
    }
}

impl I32x4 {
    /// Four zeros.
    #[inline(always)]
    pub fn zero() -> Self {
        Self(i32x4_splat(0))
    }

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i32) -> Self {
        Self(i32x4_splat(x))
    }

    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[i32; 4]) -> Self {
        // SAFETY: `x` is 16 readable bytes, and the instruction takes any alignment
        Self(unsafe { v128_load(x.as_ptr().cast()) })
    }

    /// 128 times each lane.
    #[inline(always)]
    pub fn times_128(self) -> Self {
        Self(i32x4_shl(self.0, 7))
    }

    /// Lane i of the result is the sum of `rows[i]`, modulo 2³².
    #[inline(always)]
    pub fn sums(rows: [Self; 4]) -> Self {
        let pair = |a: Self, b: Self| i32x4_add(i64x2_shuffle::<0, 2>(a.0, b.0), i64x2_shuffle::<1, 3>(a.0, b.0));
        let (ab, cd) = (pair(rows[0], rows[1]), pair(rows[2], rows[3]));
        Self(i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(ab, cd), i32x4_shuffle::<1, 3, 5, 7>(ab, cd)))
    }

    /// The four numbers.
    #[inline(always)]
    pub fn lanes(self) -> [i32; 4] {
        [
            i32x4_extract_lane::<0>(self.0),
            i32x4_extract_lane::<1>(self.0),
            i32x4_extract_lane::<2>(self.0),
            i32x4_extract_lane::<3>(self.0),
        ]
    }

    /// The same numbers as f32.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }

    /// 2ⁿ of each lane, -126 ≤ n ≤ 127.
    #[inline(always)]
    pub fn power_of_two(self) -> F32x4 {
        F32x4(i32x4_shl(i32x4_add(self.0, i32x4_splat(127)), 23))
    }

    /// Two times four as eight i16; values beyond an i16 become its smallest or largest.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        I16x8(i16x8_narrow_i32x4(self.0, high.0))
    }
}

impl I16x8 {
    /// Loads from memory.
    #[inline(always)]
    pub fn load(x: &[i16; 8]) -> Self {
        // SAFETY: `x` is 16 readable bytes, and the instruction takes any alignment
        Self(unsafe { v128_load(x.as_ptr().cast()) })
    }

    /// Stores to memory.
    #[inline(always)]
    pub fn store(self, x: &mut [i16; 8]) {
        // SAFETY: `x` is 16 writable bytes, and the instruction takes any alignment
        unsafe { v128_store(x.as_mut_ptr().cast(), self.0) }
    }

    /// The eight numbers.
    #[inline(always)]
    pub fn stored(self) -> [i16; 8] {
        let mut into = [0; 8];
        self.store(&mut into);
        into
    }

    /// The same pair four times.
    #[inline(always)]
    pub fn splat_pair(pair: [i16; 2]) -> Self {
        Self(i32x4_splat(i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16))
    }

    /// Lane i: self[2i] · other[2i] + self[2i + 1] · other[2i + 1]
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        I32x4(i32x4_dot_i16x8(self.0, other.0))
    }
}

/// A chunk as a vector.
#[inline(always)]
pub(super) fn load(chunk: &Chunk) -> v128 {
    // SAFETY: `chunk` is 16 readable bytes, and the instruction takes any alignment
    unsafe { v128_load(chunk.as_ptr().cast()) }
}

/// Sixteen i8 as i16.
#[inline(always)]
pub fn widen_i8(chunk: &Chunk) -> [I16x8; 2] {
    let at = chunk.as_ptr().cast::<i8>();
    // SAFETY: `chunk` is 16 readable bytes, of which each load reads 8; one load of all 16 would take more instructions
    unsafe { [I16x8(i16x8_load_extend_i8x8(at)), I16x8(i16x8_load_extend_i8x8(at.add(8)))] }
}

/// The product of sixteen i8 with as many numbers in 0..128, added to `sum`. Which four products a lane adds is up to
/// the platform; the four lanes together are what counts.
#[inline(always)]
pub fn dot_bytes(bytes: &Chunk, x: &Chunk, sum: I32x4) -> I32x4 {
    #[cfg(target_feature = "relaxed-simd")]
    return I32x4(i32x4_relaxed_dot_i8x16_i7x16_add(load(bytes), load(x), sum.0));
    #[cfg(not(target_feature = "relaxed-simd"))]
    {
        let ([low, high], [x_low, x_high]) = (widen_i8(bytes), widen_i8(x));
        sum + low.dot(x_low) + high.dot(x_high)
    }
}

/// Sixteen numbers within ±8191 as 128 h + l - 8192. → h and l, which are in 0..128
#[inline(always)]
pub fn planes(low: I16x8, high: I16x8) -> [Chunk; 2] {
    let [low, high] = [low, high].map(|x| i16x8_add(x.0, i16x8_splat(8192)));
    let seven = i16x8_splat(127);
    let pack = |low, high| {
        let mut into = [0; 16];
        // SAFETY: `into` is 16 writable bytes, and the instruction takes any alignment
        unsafe { v128_store(into.as_mut_ptr().cast(), i8x16_narrow_i16x8(low, high)) }
        into
    };
    [pack(i16x8_shr(low, 7), i16x8_shr(high, 7)), pack(v128_and(low, seven), v128_and(high, seven))]
}

/// Four halves as f32 in place: sign to bit 31, exponent and mantissa to bits 27..13.
#[inline(always)]
fn place_halves(wide: v128) -> F32x4 {
    F32x4(v128_and(i32x4_shl(wide, 13), i32x4_splat(0x8fff_e000_u32 as i32)))
}

/// Eight halves, each divided by [`super::F16_SCALE`]; right for zero and normal halves only.
#[inline(always)]
pub fn widen_f16(chunk: &Chunk) -> [F32x4; 2] {
    let at = chunk.as_ptr().cast::<i16>();
    // SAFETY: as for `widen_i8`
    unsafe { [place_halves(i32x4_load_extend_i16x4(at)), place_halves(i32x4_load_extend_i16x4(at.add(4)))] }
}

/// Four halves, each divided by [`super::F16_SCALE`]; right for zero and normal halves only.
#[inline(always)]
pub fn widen_halves(halves: &[u16; 4]) -> F32x4 {
    // SAFETY: `halves` is 8 readable bytes
    place_halves(unsafe { i32x4_load_extend_i16x4(halves.as_ptr().cast()) })
}

/// Reads all chunks and does nothing else, to measure the memory's speed. → all of them combined by xor, since the
/// compiler would remove reads whose result is not used
pub fn sweep(chunks: &[Chunk]) -> i32 {
    let mut sums = [i32x4_splat(0); 8];
    for chunks in chunks.as_chunks::<8>().0 {
        for (sum, chunk) in sums.iter_mut().zip(chunks) {
            *sum = v128_xor(*sum, load(chunk));
        }
    }
    sums.into_iter().map(|sum| i32x4_extract_lane::<0>(sum)).fold(0, |a, b| a ^ b)
}
