//! The learning rate over a run, and clipping.

use serde::{Deserialize, Serialize};

use crate::fused::{sum_of, vectorised};

/// Linear warm-up, then a cosine down to a share of the rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub rate: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// All steps.
    pub steps: u64,
    /// The share of the rate that the cosine ends at; 1 keeps it constant.
    pub last_share: f64,
}

impl Schedule {
    /// The rate of a step, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let n_after = self.steps.saturating_sub(self.warmup_steps).max(1);
        let share = ((step - self.warmup_steps) as f64 / n_after as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
        self.rate * (self.last_share + (1.0 - self.last_share) * cosine)
    }
}

/// The Euclidean norm, summed in an order that depends on the length alone.
pub fn norm(values: &[f32]) -> f64 {
    let squares = |part: &[f32]| {
        vectorised(
            #[inline(always)]
            || sum_of(part.len(), |i| part[i] * part[i]),
        )
    };
    values.chunks(4096).map(|part| f64::from(squares(part))).sum::<f64>().sqrt()
}

/// What gradients of this norm are multiplied by so that it is at most `max_norm` (Pascanu et al. 2013).
pub fn clip_factor(norm: f64, max_norm: Option<f64>) -> f32 {
    max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0)) as f32
}
