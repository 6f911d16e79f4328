//! Matrices of two bits a weight, to judge what they cost: rounded to nearest, and with error feedback.
//!
//! Groups of 32 weights of one output share a scale (16 bits), so a weight takes 2.5 bits. The four values are -2, -1, 0 and
//! 1 times the scale, and the weight of largest magnitude becomes -2. Embeddings, biases and norms stay.

use crate::fused::{Matrix, Model, Workspace};
use crate::{Error, Result};

/// Weights that share a scale.
const GROUP: usize = 32;

/// The share of the mean diagonal that is added to the Gram matrix, as Frantar et al. 2023 do, so that it can be inverted.
const DAMPING: f64 = 0.01;

/// The scale of a group.
fn scale(group: impl Iterator<Item = f64>) -> f64 {
    let largest = group.fold(0.0, |most: f64, x| if x.abs() > most.abs() { x } else { most });
    largest / -2.0
}

/// The nearest of the four values.
fn nearest(x: f64, scale: f64) -> f64 {
    if scale == 0.0 { 0.0 } else { (x / scale).round().clamp(-2.0, 1.0) * scale }
}

/// Rounds every matrix in the blocks to the nearest of its group's four values.
pub fn round_to_nearest(model: &Model, params: &mut [f32]) {
    for slot in model.layout.slots.iter().filter(|slot| slot.is_block_matrix()) {
        let n_out = slot.shape[1];
        for rows in params[slot.range.clone()].chunks_mut(GROUP * n_out) {
            for col in 0..n_out {
                let scale = scale(rows.iter().skip(col).step_by(n_out).map(|&x| f64::from(x)));
                rows.iter_mut().skip(col).step_by(n_out).for_each(|x| *x = nearest(f64::from(*x), scale) as f32);
            }
        }
    }
}

/// Rounds every matrix in the blocks one input after the other, and lets the weights of the inputs that follow make up
/// for each error, as far as the inputs in `rows` are alike (GPTQ, Frantar et al. 2023). Blocks are rounded from
/// the first to the last, each seeing what those before it have become. rows: the ids of each
///
/// # Errors
/// [`Error::Option`] for inputs that no matrix can be fitted to, such as none.
pub fn round_with_feedback(model: &Model, params: &mut [f32], rows: &[Vec<u32>]) -> Result<()> {
    let mut space = Workspace::default();
    for layer in 0..model.config.n_layer {
        let at = &model.layout.blocks[layer];
        for matrix in Matrix::ALL {
            let weight = matrix.of(at).weight.clone();
            let n_out = matrix.of(at).bias.len();
            let n_in = weight.len() / n_out;
            let mut gram = vec![0.0f64; n_in * n_in];
            for ids in rows {
                let inputs = model.inputs(params, ids, layer, matrix, &mut space);
                add_gram(&mut gram, inputs, n_in);
            }
            let factor = inverse_factor(gram, n_in)
                .ok_or_else(|| Error::option("text", "tokens that reach every neuron", rows.len()))?;
            feed_back(&mut params[weight], &factor, n_out);
        }
    }
    Ok(())
}

/// gram += xᵀ x. x: [N, K], gram: [K, K], of which only the lower triangle is used
fn add_gram(gram: &mut [f64], x: &[f32], k: usize) {
    let mut product = vec![0.0; k * k];
    let view = crate::fused::View::new(x, x.len() / k, k);
    let into = crate::fused::ViewMut::new(&mut product, k, k);
    crate::fused::product(into, crate::fused::Write::Replace, 1.0, view.t(), view);
    gram.iter_mut().zip(&product).for_each(|(sum, &x)| *sum += f64::from(x));
}

/// The upper triangular U with Uᵀ U = (gram + damping)⁻¹, [K, K], or none where there is no inverse.
fn inverse_factor(mut gram: Vec<f64>, k: usize) -> Option<Vec<f64>> {
    let mean = (0..k).map(|i| gram[i * k + i]).sum::<f64>() / k as f64;
    (0..k).for_each(|i| gram[i * k + i] += DAMPING * mean);
    let lower = cholesky(&gram, k)?;
    // the inverse's columns, each by two triangular systems
    let mut inverse = vec![0.0; k * k];
    let mut x = vec![0.0; k];
    for col in 0..k {
        for i in 0..k {
            let known: f64 = (0..i).map(|j| lower[i * k + j] * x[j]).sum();
            x[i] = (f64::from(u8::from(i == col)) - known) / lower[i * k + i];
        }
        for i in (0..k).rev() {
            let known: f64 = (i + 1..k).map(|j| lower[j * k + i] * x[j]).sum();
            x[i] = (x[i] - known) / lower[i * k + i];
        }
        (0..k).for_each(|i| inverse[i * k + col] = x[i]);
    }
    let lower = cholesky(&inverse, k)?;
    Some((0..k * k).map(|at| lower[at % k * k + at / k]).collect())
}

/// The lower triangular L with L Lᵀ = a, [K, K], or none where `a` is not positive definite.
fn cholesky(a: &[f64], k: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..=i {
            let known: f64 = lower[i * k..][..j].iter().zip(&lower[j * k..][..j]).map(|(a, b)| a * b).sum();
            let rest = a[i * k + j] - known;
            lower[i * k + j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / lower[j * k + j],
            };
        }
    }
    Some(lower)
}

/// Rounds w: [K, N] row by row; each row's error, over its place on the diagonal, is taken from the rows after it.
/// → the squared error that this leaves in the outputs, which is the sum of those errors squared
fn feed_back(w: &mut [f32], factor: &[f64], n_out: usize) -> f64 {
    let k = w.len() / n_out;
    let mut rest: Vec<f64> = w.iter().map(|&x| f64::from(x)).collect();
    let mut scales = vec![0.0; n_out];
    let mut left = 0.0;
    for i in 0..k {
        if i % GROUP == 0 {
            let group = i * n_out..k.min(i + GROUP) * n_out;
            for (col, found) in scales.iter_mut().enumerate() {
                *found = scale(rest[group.clone()].iter().skip(col).step_by(n_out).copied());
            }
        }
        let (row, after) = rest[i * n_out..].split_at_mut(n_out);
        for ((x, out), &scale) in row.iter_mut().zip(&mut w[i * n_out..]).zip(&scales) {
            let rounded = nearest(*x, scale);
            *out = rounded as f32;
            *x = (*x - rounded) / factor[i * k + i];
            left += *x * *x;
        }
        for (j, after) in after.chunks_exact_mut(n_out).enumerate() {
            let share = factor[i * k + i + 1 + j];
            after.iter_mut().zip(&*row).for_each(|(x, error)| *x -= error * share);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_of_the_inverse() {
        let k = 5;
        let gram: Vec<f64> =
            (0..k * k).map(|at| if at % (k + 1) == 0 { 4.0 } else { 1.0 / (1 + at % k + at / k) as f64 }).collect();
        let factor = inverse_factor(gram.clone(), k).unwrap();
        for i in 0..k {
            for j in 0..k {
                let inverse = |i: usize, j: usize| (0..k).map(|l| factor[l * k + i] * factor[l * k + j]).sum::<f64>();
                let damped = |i: usize, j: usize| gram[i * k + j] + if i == j { DAMPING * 4.0 } else { 0.0 };
                let found: f64 = (0..k).map(|l| damped(i, l) * inverse(l, j)).sum();
                assert!((found - f64::from(u8::from(i == j))).abs() < 1e-9);
                assert!(i <= j || factor[i * k + j] == 0.0, "upper triangular");
            }
        }
        assert!(inverse_factor(vec![0.0; 4], 2).is_none());
    }

    #[test]
    fn feedback_makes_up_for_errors_on_inputs_that_are_alike() {
        // 64 inputs that all follow three hidden numbers, 200 times; one output
        let (k, n) = (64, 200);
        let number = |i: usize| (((i * 7919 + 13) % 1009) as f32 - 504.0) / 504.0;
        let x: Vec<f32> = (0..n * k)
            .map(|at| {
                (0..3).map(|h| number(at / k * 3 + h + 1) * number(at % k * 5 + h + 7)).sum::<f32>()
                    + 0.05 * number(at * 3)
            })
            .collect();
        let w: Vec<f32> = (0..k).map(|i| number(i * 31 + 5)).collect();
        let mut gram = vec![0.0; k * k];
        add_gram(&mut gram, &x, k);
        let mut fed = w.clone();
        let left = feed_back(&mut fed, &inverse_factor(gram.clone(), k).unwrap(), 1);
        let damping = DAMPING * (0..k).map(|i| gram[i * k + i]).sum::<f64>() / k as f64;
        let d: Vec<f64> = w.iter().zip(&fed).map(|(a, b)| f64::from(a - b)).collect();
        let direct: f64 = (0..k * k).map(|at| d[at / k] * d[at % k] * gram[at]).sum();
        let direct = direct + damping * d.iter().map(|d| d * d).sum::<f64>();
        assert!((left - direct).abs() < 1e-4 * direct, "{left} {direct}");
        let mut plain = w.clone();
        for group in plain.chunks_mut(GROUP) {
            let scale = scale(group.iter().map(|&x| f64::from(x)));
            group.iter_mut().for_each(|x| *x = nearest(f64::from(*x), scale) as f32);
        }
        let error = |rounded: &[f32]| {
            let outputs =
                x.chunks(k).map(|x| x.iter().zip(&w).zip(rounded).map(|((x, w), r)| x * (w - r)).sum::<f32>());
            outputs.map(|e| e * e).sum::<f32>()
        };
        assert!(error(&fed) < 0.6 * error(&plain), "{} {}", error(&fed), error(&plain));
        for group in fed.chunks(GROUP) {
            let mut values: Vec<f32> = group.to_vec();
            values.sort_by(f32::total_cmp);
            values.dedup();
            assert!(values.len() <= 4, "{values:?}");
        }
    }
}
