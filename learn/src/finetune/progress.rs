//! How far a fine-tuning is, so that a later visit goes on where this one ends.

use serde::{Deserialize, Serialize};

use super::run::Finetune;
use crate::train::State;
use crate::{Error, Result};

/// Where a fine-tuning stands, besides its parameters and their moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Which round through the text it is in.
    pub epoch: u64,
    /// How many of that round's rows are done.
    pub n_used: usize,
    /// The least loss on what is kept back, if it was scored.
    pub best_loss: Option<f64>,
    /// How many scores since were worse.
    pub n_worse: u32,
}

impl Finetune {
    /// Where it stands.
    pub fn progress(&self) -> Progress {
        Progress {
            step: self.state().step,
            epoch: self.epoch,
            n_used: self.n_used,
            best_loss: self.best_loss.is_finite().then_some(self.best_loss),
            n_worse: self.n_worse,
        }
    }

    /// The parameters and their two moments, one behind the other.
    pub fn numbers(&self) -> Vec<f32> {
        let State { params, first, second, .. } = self.state();
        [params.as_slice(), first, second].concat()
    }

    /// Goes on where another one stood, which was begun with the same model, text and settings.
    ///
    /// # Errors
    /// [`Error::Option`] if that cannot have been.
    pub fn restore(&mut self, progress: Progress, numbers: &[f32]) -> Result<()> {
        let n = self.params().len();
        if numbers.len() != 3 * n {
            return Err(Error::option("resume", format!("{} numbers", 3 * n), numbers.len()));
        }
        let rows = self.windows.epoch(progress.epoch, self.settings.seed);
        if progress.n_used > rows.len() || progress.step >= self.n_steps() {
            let expected = format!("less than {} steps, and {} rows at most", self.n_steps(), rows.len());
            return Err(Error::option("resume", expected, format!("{} and {}", progress.step, progress.n_used)));
        }
        let part = |i: usize| numbers[i * n..(i + 1) * n].to_vec();
        *self.pupil.state_mut() = State { step: progress.step, params: part(0), first: part(1), second: part(2) };
        (self.rows, self.epoch, self.n_used) = (rows, progress.epoch, progress.n_used);
        self.best_loss = progress.best_loss.unwrap_or(f64::INFINITY);
        self.n_worse = progress.n_worse;
        Ok(())
    }
}
