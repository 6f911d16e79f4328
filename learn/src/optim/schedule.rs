//! The learning rate over a run, and clipping.

use serde::{Deserialize, Serialize};

use crate::fused::{sum_of, vectorised};

/// Linear warm-up, then a cosine down to a share of the rate; or the full rate until the last steps, in which it falls
/// by 1 - √x (Hägele et al. 2024), so that a run can be made longer or shorter while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub rate: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// All steps.
    pub steps: u64,
    /// The share of the rate that it ends at; 1 keeps it constant.
    pub last_share: f64,
    /// In how many last steps the rate falls; none for a cosine from the warm-up on.
    pub cooldown_steps: Option<u64>,
}

impl Schedule {
    /// The rate of a step, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let n_falling = self.cooldown_steps.unwrap_or(self.steps.saturating_sub(self.warmup_steps));
        let begin = self.steps.saturating_sub(n_falling);
        let share = (step.saturating_sub(begin) as f64 / n_falling.max(1) as f64).min(1.0);
        let left = match self.cooldown_steps {
            None => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
            Some(_) => 1.0 - share.sqrt(),
        };
        self.rate * (self.last_share + (1.0 - self.last_share) * left)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cooldown_falls_in_the_last_steps_alone() {
        let schedule = Schedule { rate: 2.0, warmup_steps: 4, steps: 100, last_share: 0.1, cooldown_steps: Some(25) };
        assert_eq!((schedule.at(0), schedule.at(3), schedule.at(75)), (0.5, 2.0, 2.0));
        assert!(schedule.at(76) < 2.0 && schedule.at(99) > 0.2);
        assert!((schedule.at(100) - 0.2).abs() < 1e-12);
        let longer = Schedule { steps: 200, ..schedule };
        assert!((0..75).all(|step| longer.at(step) == schedule.at(step)));
    }
}
