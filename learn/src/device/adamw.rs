//! AdamW over tensors of a device; the same formula as `optim::AdamW`.

use burn::tensor::Tensor;

use crate::optim::AdamW;

/// A parameter's next value and moments.
pub struct Updated {
    pub param: Tensor<1>,
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

/// One update. grad: already clipped; step: from 1
pub fn update(adamw: AdamW, before: Updated, grad: Tensor<1>, decays: bool, step: u64, rate: f32) -> Updated {
    let AdamW { beta_1, beta_2, epsilon, weight_decay } = adamw;
    let bias = |beta: f32| 1.0 - f64::from(beta).powi(step.min(1 << 20) as i32);
    let first = before.first * beta_1 + grad.clone() * (1.0 - beta_1);
    let second = before.second * beta_2 + grad.square() * (1.0 - beta_2);
    let root = second.clone().sqrt() * (1.0 / bias(beta_2)).sqrt() + epsilon;
    let kept = if decays { 1.0 - rate * weight_decay } else { 1.0 };
    let param = before.param * kept - first.clone() / root * (f64::from(rate) / bias(beta_1));
    Updated { param, first, second }
}
