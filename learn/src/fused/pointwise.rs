//! What is computed number by number or row by row: nonlinearity, LayerNorm, linear layers, dropout.

use std::ops::Range;

use gpt2_web::checkpoint::Activation;

use super::math::{View, ViewMut, Write, add, product, sum_of, tanh, vectorised};
use crate::layout::Affine;

/// √(2/π) and the cubic's factor in GPT-2's GELU.
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// out = act(x), element by element.
pub fn activate(activation: Activation, out: &mut [f32], x: &[f32]) {
    let mut each = |f: fn(f32) -> f32| out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x));
    match activation {
        Activation::GeluNew => vectorised(
            #[inline(always)]
            || {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = 0.5 * x * (1.0 + tanh(GELU.0 * (x + GELU.1 * x * x * x)));
                }
            },
        ),
        Activation::Gelu => each(|x| x * normal(x)),
        Activation::Relu => each(|x| x.max(0.0)),
        Activation::Silu => each(|x| x / (1.0 + (-x).exp())),
        Activation::Tanh => each(f32::tanh),
        Activation::QuickGelu => each(|x| x / (1.0 + (-1.702 * x).exp())),
    }
}

/// d *= act′(x), element by element.
pub fn activate_backward(activation: Activation, d: &mut [f32], x: &[f32]) {
    let mut each = |f: fn(f32) -> f32| d.iter_mut().zip(x).for_each(|(d, &x)| *d *= f(x));
    match activation {
        Activation::GeluNew => vectorised(
            #[inline(always)]
            || {
                for (d, &x) in d.iter_mut().zip(x) {
                    let t = tanh(GELU.0 * (x + GELU.1 * x * x * x));
                    let slope = GELU.0 * (1.0 + 3.0 * GELU.1 * x * x);
                    *d *= 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope;
                }
            },
        ),
        Activation::Gelu => each(|x| normal(x) + x * (-0.5 * x * x).exp() * (0.5 * GELU.0)),
        Activation::Relu => each(|x| f32::from(x > 0.0)),
        Activation::Silu => each(|x| {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x * (1.0 - s))
        }),
        Activation::Tanh => each(|x| 1.0 - x.tanh().powi(2)),
        Activation::QuickGelu => each(|x| {
            let s = 1.0 / (1.0 + (-1.702 * x).exp());
            s * (1.0 + 1.702 * x * (1.0 - s))
        }),
    }
}

/// The share of the normal distribution below x.
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Mean and 1/√(variance + ε) of each row: `[N]` each.
#[derive(Debug, Default)]
pub struct RowStats {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

/// LayerNorm (Ba et al. 2016). x, out: [N, C]
pub fn norm(out: &mut [f32], x: &[f32], params: &[f32], at: &Affine, epsilon: f32, stats: &mut RowStats) {
    let (gain, shift) = (&params[at.weight.clone()], &params[at.bias.clone()]);
    let c = gain.len();
    stats.mean.clear();
    stats.scale.clear();
    vectorised(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                let mean = sum_of(c, |i| x[i]) / c as f32;
                let variance = sum_of(c, |i| (x[i] - mean) * (x[i] - mean)) / c as f32;
                let scale = 1.0 / (variance + epsilon).sqrt();
                for i in 0..c {
                    out[i] = (x[i] - mean) * scale * gain[i] + shift[i];
                }
                stats.mean.push(mean);
                stats.scale.push(scale);
            }
        },
    );
}

/// The gradient of [`norm`]: adds to `dx` and to the gain's and shift's gradients. x, dx, dy: [N, C]
///
/// With x̂ = (x - mean) · scale and g = dy · gain: dx = scale · (g - mean(g) - x̂ · mean(g x̂)).
pub fn norm_backward(
    dx: &mut [f32],
    grads: &mut [f32],
    dy: &[f32],
    x: &[f32],
    params: &[f32],
    at: &Affine,
    stats: &RowStats,
) {
    let (d_gain, d_shift) = two(grads, &at.weight, &at.bias);
    vectorised(
        #[inline(always)]
        || {
            norm_backward_rows(dx, dy, x, &params[at.weight.clone()], stats, |i, dy, x_hat| {
                d_gain[i] += dy * x_hat;
                d_shift[i] += dy;
            });
        },
    );
}

/// The gradient of [`norm`] by its input alone: adds to `dx`. x, dx, dy: [N, C]
pub fn norm_backward_frozen(dx: &mut [f32], dy: &[f32], x: &[f32], params: &[f32], at: &Affine, stats: &RowStats) {
    vectorised(
        #[inline(always)]
        || norm_backward_rows(dx, dy, x, &params[at.weight.clone()], stats, |_, _, _| ()),
    );
}

/// Adds to `dx` and tells `seen` the column, dy and x̂ of every element.
#[inline(always)]
fn norm_backward_rows(
    dx: &mut [f32],
    dy: &[f32],
    x: &[f32],
    gain: &[f32],
    stats: &RowStats,
    mut seen: impl FnMut(usize, f32, f32),
) {
    let c = gain.len();
    for (n, ((dx, dy), x)) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)).enumerate() {
        let (mean, scale) = (stats.mean[n], stats.scale[n]);
        let mean_g = sum_of(c, |i| dy[i] * gain[i]) / c as f32;
        let mean_gx = sum_of(c, |i| dy[i] * gain[i] * ((x[i] - mean) * scale)) / c as f32;
        for i in 0..c {
            let x_hat = (x[i] - mean) * scale;
            dx[i] += scale * (dy[i] * gain[i] - mean_g - x_hat * mean_gx);
            seen(i, dy[i], x_hat);
        }
    }
}

/// Two places in one buffer, the first before the second.
fn two<'a>(values: &'a mut [f32], a: &Range<usize>, b: &Range<usize>) -> (&'a mut [f32], &'a mut [f32]) {
    let (before, after) = values.split_at_mut(b.start);
    (&mut before[a.clone()], &mut after[..b.len()])
}

/// out = x · W + b. x: [N, in], out: [N, out]
pub fn linear(out: &mut [f32], x: &[f32], params: &[f32], at: &Affine) {
    let (weight, bias) = (&params[at.weight.clone()], &params[at.bias.clone()]);
    let (n_out, n_in) = (bias.len(), weight.len() / bias.len());
    let n = x.len() / n_in;
    for row in out.chunks_exact_mut(n_out) {
        row.copy_from_slice(bias);
    }
    product(ViewMut::new(out, n, n_out), Write::Add, 1.0, View::new(x, n, n_in), View::new(weight, n_in, n_out));
}

/// The gradient of [`linear`]: replaces `dx`, adds to the weight's and the bias's gradients.
pub fn linear_backward(dx: &mut [f32], grads: &mut [f32], dy: &[f32], x: &[f32], params: &[f32], at: &Affine) {
    let weight = &params[at.weight.clone()];
    let (n_out, n_in) = (at.bias.len(), weight.len() / at.bias.len());
    let n = x.len() / n_in;
    let (d_weight, d_bias) = two(grads, &at.weight, &at.bias);
    let (x, dy_view) = (View::new(x, n, n_in), View::new(dy, n, n_out));
    product(ViewMut::new(d_weight, n_in, n_out), Write::Add, 1.0, x.t(), dy_view);
    vectorised(
        #[inline(always)]
        || dy.chunks_exact(n_out).for_each(|row| add(d_bias, row)),
    );
    linear_backward_frozen(dx, dy, params, at);
}

/// The gradient of [`linear`] by its input alone: replaces `dx`.
pub fn linear_backward_frozen(dx: &mut [f32], dy: &[f32], params: &[f32], at: &Affine) {
    let weight = &params[at.weight.clone()];
    let (n_out, n_in) = (at.bias.len(), weight.len() / at.bias.len());
    let n = dy.len() / n_out;
    let weight = View::new(weight, n_in, n_out).t();
    product(ViewMut::new(dx, n, n_in), Write::Replace, 1.0, View::new(dy, n, n_out), weight);
}
