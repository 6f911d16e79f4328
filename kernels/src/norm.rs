//! LayerNorm and the MLP's nonlinearities.

use crate::layout::Activation;
use crate::simd::F32x4;

/// LayerNorm (Ba et al. 2016): out = (x - mean) / √(var + ε) · weight + bias. All \[C\]; `out` may be longer.
///
/// Two passes over x, as the variance of numbers that are far from 0 needs.
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

/// The nonlinearity of each lane.
#[inline(always)]
pub fn activate(activation: Activation, x: F32x4) -> F32x4 {
    let one = F32x4::splat(1.0);
    let sigmoid = |x: F32x4| one / (one + (F32x4::splat(0.0) - x).exp());
    match activation {
        // 0.5 x (1 + tanh(u)) = x · sigmoid(2u), with u = √(2/π) (x + 0.044715 x³)
        Activation::GeluNew => {
            let u2 = F32x4::splat(1.595_769_2) * x * (x * x).madd(F32x4::splat(0.044_715), one);
            x * sigmoid(u2)
        }
        Activation::Gelu => x * F32x4::splat(0.5) * (one + erf(x * F32x4::splat(core::f32::consts::FRAC_1_SQRT_2))),
        Activation::Relu => x.max(F32x4::splat(0.0)),
        Activation::Silu => x * sigmoid(x),
        // 2 sigmoid(2x) - 1
        Activation::Tanh => F32x4::splat(2.0) * sigmoid(x + x) - one,
    }
}

/// Abramowitz & Stegun 7.1.26, to 1.5e-7.
#[inline(always)]
fn erf(x: F32x4) -> F32x4 {
    const A: [f32; 4] = [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6];
    let one = F32x4::splat(1.0);
    let z = x.abs();
    let t = one / z.madd(F32x4::splat(0.327_591_1), one);
    let p = A.into_iter().fold(F32x4::splat(1.061_405_4), |p, a| p.madd(t, F32x4::splat(a)));
    let y = one - p * t * (F32x4::splat(0.0) - z * z).exp();
    y.copy_sign(x)
}
