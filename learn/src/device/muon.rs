//! Muon over tensors of a device; the same formula as `optim::Muon`.

use burn::tensor::Tensor;

use crate::layout::Slot;
use crate::optim::Muon;

/// One update of a matrix. grad: already clipped. → (parameters, momentum), flat
pub fn update(
    muon: Muon,
    slot: &Slot,
    param: Tensor<1>,
    momentum: Tensor<1>,
    grad: Tensor<1>,
    rate: f32,
) -> (Tensor<1>, Tensor<1>) {
    let momentum = momentum * muon.momentum + grad.clone();
    let ahead = (grad + momentum.clone() * muon.momentum).reshape([slot.shape[0], slot.shape[1]]);
    // query, key and value are three matrices side by side
    let n_parts = if slot.name.ends_with("attn.c_attn.weight") { 3 } else { 1 };
    let parts: Vec<Tensor<2>> = ahead.chunk(n_parts, 1).into_iter().map(orthogonalise).collect();
    let n_cols = slot.shape[1] / n_parts;
    let rate_here = rate * 0.2 * (slot.shape[0].max(n_cols) as f32).sqrt();
    let direction = Tensor::cat(parts, 1).reshape([slot.range.len()]);
    (param * (1.0 - rate * muon.weight_decay) - direction * rate_here, momentum)
}

/// Brings all singular values to about one, by five Newton-Schulz steps on the smaller side.
fn orthogonalise(x: Tensor<2>) -> Tensor<2> {
    const STEPS: [f32; 3] = [3.4445, -4.7750, 2.0315];
    let [n_rows, n_cols] = x.dims();
    let is_tall = n_rows > n_cols;
    let norm = x.clone().square().sum().sqrt() + 1e-7;
    let mut x = x / norm.unsqueeze();
    if is_tall {
        x = x.transpose();
    }
    for _ in 0..5 {
        let gram = x.clone().matmul(x.clone().transpose());
        let poly = gram.clone() * STEPS[1] + gram.clone().matmul(gram) * STEPS[2];
        x = x.clone() * STEPS[0] + poly.matmul(x);
    }
    if is_tall { x.transpose() } else { x }
}
