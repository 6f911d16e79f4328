//! Softmax.

use crate::simd::F32x4;

/// Softmax in place: eˣ / Σ eˣ. x: \[S\]
///
/// A function of its own, for the reason that `product::dot_one` gives.
#[inline(never)]
pub fn softmax(x: &mut [f32]) {
    // subtract the maximum so exp() cannot overflow
    let (lanes, rest) = x.as_chunks::<4>();
    let lowest = F32x4::splat(f32::NEG_INFINITY);
    let max = lanes.iter().fold(lowest, |max, x| max.max(F32x4::load(x))).lanes();
    let max = F32x4::splat(max.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| max.max(x)));
    let (lanes, rest) = x.as_chunks_mut::<4>();
    let mut sums = F32x4::splat(0.0);
    for x in lanes.iter_mut() {
        let e = (F32x4::load(x) - max).exp();
        e.store(x);
        sums = sums + e;
    }
    let mut sum = sums.lanes().into_iter().sum::<f32>();
    for x in rest.iter_mut() {
        let [e, ..] = (F32x4::splat(*x) - max).exp().lanes();
        *x = e;
        sum += e;
    }
    let inverse = F32x4::splat(1.0 / sum);
    for x in lanes {
        (F32x4::load(x) * inverse).store(x);
    }
    for x in rest {
        *x /= sum;
    }
}
