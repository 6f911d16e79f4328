//! The few vector operations that the kernels are written in: 128 bits wide, as WebAssembly has them.
//!
//! On WebAssembly each is one or two instructions. Elsewhere they are loops over plain arrays, of which the compiler
//! makes vector instructions, so that tests and benches run the same kernels natively.

mod chunk;
#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
mod wasm_nibbles;

pub use chunk::Chunk;
#[cfg(not(target_arch = "wasm32"))]
pub use portable::{
    F32x4, I16x8, I32x4, NibbleX, Nibbles, dot_bytes, planes, sweep, widen_f16, widen_halves, widen_i8,
};
#[cfg(target_arch = "wasm32")]
pub use wasm::{F32x4, I16x8, I32x4, dot_bytes, planes, sweep, widen_f16, widen_halves, widen_i8};
#[cfg(target_arch = "wasm32")]
pub use wasm_nibbles::{NibbleX, Nibbles};

/// The factor by which the results of [`widen_f16`] and [`widen_halves`] are too small: they shift a half's exponent to
/// where an f32 has it and leave its bias, 15, as it is, where an f32 has 127.
pub const F16_SCALE: f32 = f32::from_bits((127 + 112) << 23); // 2^112

impl F32x4 {
    /// eˣ of each lane, to about 2 units in the last place; x is limited to ±87 (Cephes' `expf`).
    #[inline(always)]
    pub fn exp(self) -> Self {
        const POLYNOMIAL: [f32; 5] = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
        let x = self.max(Self::splat(-87.0)).min(Self::splat(87.0));
        let n_i32 = x.nearest_i32(Self::splat(core::f32::consts::LOG2_E));
        let n = n_i32.to_f32();
        // ln 2 in two parts, the first exact in f32, so that x - n ln 2 loses nothing
        let r = (x - n * Self::splat(0.693_359_4)) - n * Self::splat(-2.121_944_4e-4);
        let p = POLYNOMIAL.into_iter().fold(Self::splat(1.987_569_1e-4), |p, c| p.madd(r, Self::splat(c)));
        let p = p.madd(r * r, r + Self::splat(1.0));
        p * n_i32.power_of_two()
    }

    /// The whole number nearest to self · scale. Beyond a magnitude of 2²², and for NaN, the result has no meaning.
    #[inline(always)]
    pub fn nearest_i32(self, scale: Self) -> I32x4 {
        // a sum with 1.5 · 2²³ has no room for a fraction: it is rounded, and its lowest bits are the whole number
        const SHIFT: f32 = 12_582_912.0;
        self.madd(scale, Self::splat(SHIFT)).bits() - Self::splat(SHIFT).bits()
    }
}

/// The largest magnitude of finite numbers, and Σ 0 · x: 0, or NaN if some number is not finite.
pub fn magnitude(x: &[f32]) -> (f32, f32) {
    let (mut largest, mut nan_or_zero) = ([F32x4::splat(0.0); 2], [F32x4::splat(0.0); 2]);
    let mut take = |i: usize, x: F32x4| {
        largest[i] = largest[i].max(x.abs());
        nan_or_zero[i] = nan_or_zero[i] + x * F32x4::splat(0.0);
    };
    let (pairs, rest) = x.as_chunks::<8>();
    for pair in pairs {
        // two independent chains, because in each an operation waits for the one before
        for (i, x) in pair.as_chunks().0.iter().enumerate() {
            take(i, F32x4::load(x));
        }
    }
    for &x in rest {
        take(0, F32x4::splat(x));
    }
    let largest = largest[0].max(largest[1]).lanes().into_iter().fold(0.0, f32::max);
    (largest, (nan_or_zero[0] + nan_or_zero[1]).lanes().into_iter().sum())
}

/// round(x · scale) of eight numbers, limited to the range of an i16; without meaning for NaN.
#[inline(always)]
pub fn nearest_i16(x: &[f32; 8], scale: F32x4) -> I16x8 {
    let [low, high] = [[x[0], x[1], x[2], x[3]], [x[4], x[5], x[6], x[7]]];
    F32x4::load(&low).nearest_i32(scale).narrow(F32x4::load(&high).nearest_i32(scale))
}

/// Calls `put(index, number)` with the whole number nearest to each x · scale; for NaN it is 0.
#[inline(always)]
pub fn each_nearest(x: &[f32], scale: f32, mut put: impl FnMut(usize, i32)) {
    let (lanes, rest) = x.as_chunks::<4>();
    let nearest = |x: F32x4| (x * F32x4::splat(scale)).nearest().lanes();
    for (i, x) in lanes.iter().enumerate() {
        for (j, q) in nearest(F32x4::load(x)).into_iter().enumerate() {
            put(4 * i + j, q as i32);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        put(4 * lanes.len() + i, nearest(F32x4::splat(x))[0] as i32);
    }
}
