//! AdamW (Loshchilov & Hutter 2019, algorithm 2) over the one flat buffer: one pass, on every thread.

use std::ops::Range;

use super::shares::in_shares;
use crate::fused::vectorised;

/// Its constants; those of GPT-2's successors by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// β₁
    pub beta_1: f32,
    /// β₂
    pub beta_2: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// λ, for tensors of two or more dimensions.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.95, epsilon: 1e-8, weight_decay: 0.1 }
    }
}

/// What one update needs beside the buffers.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The step, from 1.
    pub step: u64,
    /// The learning rate.
    pub rate: f32,
    /// What gradients are multiplied by first: clipping.
    pub factor: f32,
}

/// The buffers of some parameters: values, gradients and both moments, of one length.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// θ
    pub params: &'a mut [f32],
    /// g
    pub grads: &'a [f32],
    /// m
    pub first: &'a mut [f32],
    /// v
    pub second: &'a mut [f32],
}

impl Buffers<'_> {
    fn part(&mut self, range: Range<usize>) -> Buffers<'_> {
        Buffers {
            params: &mut self.params[range.clone()],
            grads: &self.grads[range.clone()],
            first: &mut self.first[range.clone()],
            second: &mut self.second[range],
        }
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (params, params_after) = self.params.split_at_mut(at);
        let (grads, grads_after) = self.grads.split_at(at);
        let (first, first_after) = self.first.split_at_mut(at);
        let (second, second_after) = self.second.split_at_mut(at);
        let after = Buffers { params: params_after, grads: grads_after, first: first_after, second: second_after };
        (Buffers { params, grads, first, second }, after)
    }
}

impl AdamW {
    /// Updates the parameters in `spans`, each with whether it decays.
    pub fn update(&self, mut all: Buffers, spans: &[(Range<usize>, bool)], update: Update, n_threads: usize) {
        for (span, decays) in spans {
            let part = all.part(span.clone());
            in_shares(part, span.len(), n_threads, Buffers::split, |part| self.update_span(part, *decays, update));
        }
    }

    fn update_span(&self, Buffers { params, grads, first, second }: Buffers, decays: bool, update: Update) {
        let Self { beta_1, beta_2, epsilon, weight_decay } = *self;
        // 1 - βᵗ in f64: at t = 1 in f32 the difference would lose digits
        let bias = |beta: f32| 1.0 - f64::from(beta).powi(update.step.min(1 << 20) as i32);
        let rate = (f64::from(update.rate) / bias(beta_1)) as f32;
        let root = (1.0 / bias(beta_2)).sqrt() as f32;
        let kept = if decays { 1.0 - update.rate * weight_decay } else { 1.0 };
        vectorised(
            #[inline(always)]
            || {
                for (((p, &g), m), v) in params.iter_mut().zip(grads).zip(first).zip(second) {
                    let g = g * update.factor;
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
                    *p = *p * kept - rate * *m / (v.sqrt() * root + epsilon);
                }
            },
        );
    }
}
