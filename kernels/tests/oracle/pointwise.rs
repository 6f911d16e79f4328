//! LayerNorm, softmax and the activation functions.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::Activation;
use gpt2_kernels::activation::activate;
use gpt2_kernels::norm::layer_norm;
use gpt2_kernels::simd::F32x4;
use gpt2_kernels::softmax::softmax;

use crate::input::Rng;

#[test]
fn layer_norm_equals_the_oracle() {
    let mut rng = Rng(4);
    for n in [1, 2, 5, 32, 33, 768] {
        let (x, weight, bias) = (rng.nasty(n), rng.nasty(n), rng.nasty(n));
        let mut found = vec![0.0; n];
        layer_norm(&x, &weight, &bias, 1e-5, &mut found);
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
        for i in 0..n {
            let normal = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
            let expected = normal * f64::from(weight[i]) + f64::from(bias[i]);
            let bound = 1e-5 * (f64::from(weight[i].abs()) * (1.0 + normal.abs()) + f64::from(bias[i].abs()));
            assert!((f64::from(found[i]) - expected).abs() <= bound, "{n}: {i}: {expected}, found {}", found[i]);
        }
    }
}

#[test]
fn softmax_equals_the_oracle() {
    let mut rng = Rng(6);
    for n in [1, 2, 3, 4, 5, 8, 127, 129, 1023] {
        let x = rng.nasty(n);
        let mut found = x.clone();
        softmax(&mut found);
        let max = x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
        let exps: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).collect();
        let sum: f64 = exps.iter().sum();
        for (i, (e, found)) in exps.iter().zip(&found).enumerate() {
            let expected = e / sum;
            // the difference to the maximum is rounded to f32 before exp(); results below 1e-30 count as 0
            let distance = f64::from(max) - f64::from(x[i]);
            let bound = expected * (1e-6 + distance * f64::from(f32::EPSILON)) + 1e-30;
            assert!((f64::from(*found) - expected).abs() <= bound, "{n}: {i}: {expected}, found {found}");
        }
    }
}

#[test]
fn exp_and_the_activation_functions_equal_the_oracle() {
    for i in -4000..4000 {
        let x = i as f32 * 0.01;
        let (wide, [exp, ..]) = (f64::from(x), F32x4::splat(x).exp().lanes());
        assert!((f64::from(exp) / wide.exp() - 1.0).abs() < 4e-7, "exp({x}) = {exp}");
        let tanh = |x: f64| x.tanh();
        for (activation, expected) in [
            (
                Activation::GeluNew,
                0.5 * wide * (1.0 + tanh(0.797_884_560_802_865_4 * (wide + 0.044715 * wide.powi(3)))),
            ),
            (Activation::Gelu, 0.5 * wide * (1.0 + libm::erf(wide * std::f64::consts::FRAC_1_SQRT_2))),
            (Activation::Relu, wide.max(0.0)),
            (Activation::Silu, wide / (1.0 + (-wide).exp())),
            (Activation::Tanh, tanh(wide)),
            (Activation::QuickGelu, wide / (1.0 + (-1.702 * wide).exp())),
        ] {
            let [found, ..] = activate(activation, F32x4::splat(x)).lanes();
            let bound = 1e-6 * expected.abs() + 3e-7;
            assert!((f64::from(found) - expected).abs() <= bound, "{activation:?}({x}): {expected}, found {found}");
        }
    }
}
