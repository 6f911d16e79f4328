//! LayerNorm.

use crate::simd::F32x4;

/// LayerNorm (Ba et al. 2016): out = (x - mean) / √(var + ε) · weight + bias. All \[C\]; `out` may be longer.
///
/// It reads x twice: mean and variance in a single pass would lose precision where the mean is far from 0.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let (lanes, rest) = x.as_chunks::<4>();
    let sum = |f: &dyn Fn(F32x4) -> F32x4, g: &dyn Fn(f32) -> f32| {
        let lanes = lanes.iter().fold(F32x4::splat(0.0), |sum, x| sum + f(F32x4::load(x)));
        lanes.lanes().into_iter().sum::<f32>() + rest.iter().map(|&x| g(x)).sum::<f32>()
    };
    let mean = sum(&|x| x, &|x| x) / n;
    let square = |x: F32x4| {
        let d = x - F32x4::splat(mean);
        d * d
    };
    let variance = sum(&square, &|x| (x - mean) * (x - mean)) / n;
    let inverse = 1.0 / libm::sqrtf(variance + epsilon);
    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = (x - mean) * inverse * w + b;
    }
}
