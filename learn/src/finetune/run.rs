//! Rows, steps, the loss on what is kept back, and the best so far.

use std::ops::Range;

use serde::Serialize;

use super::pupil::Pupil;
use super::settings::{FinetuneSettings, Method};
use super::windows::Windows;
use crate::fused::{LoraLayout, Model, Rows, Sums};
use crate::optim::Schedule;
use crate::train::State;
use crate::{Error, Result};

/// How often the part that is kept back is scored.
const N_EVALUATIONS: u64 = 20;

/// So many scores in a row that are worse than the best one end the learning.
const PATIENCE: u32 = 4;

/// What a step showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FinetuneReport {
    /// Steps done.
    pub step: u64,
    /// Of so many.
    pub steps: u64,
    /// Of the step's rows, nats per token.
    pub loss: f64,
    /// Of what is kept back, if it was scored after this step.
    pub eval_loss: Option<f64>,
    /// The rate of this step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before it was clipped to 1.
    pub grad_norm: f64,
    /// Tokens that the step learnt from.
    pub n_tokens: usize,
    /// Whether it was the last one: all are done, or what is kept back gets worse.
    pub is_last: bool,
    /// Whether what was learnt is the best so far, which it is after every step where nothing is kept back.
    pub is_best: bool,
}

/// A fine-tuning under way.
pub struct Finetune {
    model: Model,
    pub(super) settings: FinetuneSettings,
    pub(super) windows: Windows,
    pub(super) pupil: Pupil,
    n_steps: u64,
    /// The rows of this epoch, of which the first `n_used` are done.
    pub(super) rows: Vec<Range<usize>>,
    pub(super) n_used: usize,
    pub(super) epoch: u64,
    pub(super) best_loss: f64,
    pub(super) n_worse: u32,
}

impl Finetune {
    /// Begins, with the model's parameters and the texts' tokens.
    ///
    /// # Errors
    /// [`Error::Option`] names what cannot be used.
    pub fn new(model: Model, params: Vec<f32>, texts: &[Vec<u32>], settings: FinetuneSettings) -> Result<Self> {
        let (windows, n_steps) = plan(&model, texts, &settings)?;
        let schedule = Schedule {
            rate: settings.rate(),
            warmup_steps: settings.warmup_steps.unwrap_or(n_steps / 20),
            steps: n_steps,
            last_share: 0.1,
            cooldown_steps: None,
        };
        let pupil = Pupil::new(&model, params, &settings, schedule)?;
        let rows = windows.epoch(0, settings.seed);
        let best_loss = f64::INFINITY;
        Ok(Self { model, settings, windows, pupil, n_steps, rows, n_used: 0, epoch: 0, best_loss, n_worse: 0 })
    }

    /// Where the parameters of the adapter stand, if it is one that learns.
    pub fn lora_layout(&self) -> Option<&LoraLayout> {
        self.pupil.lora_layout()
    }

    /// What has been learnt: the adapter's parameters, or the model's.
    pub fn params(&self) -> &[f32] {
        &self.pupil.state().params
    }

    /// Steps done, parameters and moments.
    pub fn state(&self) -> &State {
        self.pupil.state()
    }

    /// What was asked for.
    pub fn settings(&self) -> &FinetuneSettings {
        &self.settings
    }

    /// How many steps it makes at most.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The loss on what is kept back, nats per token; `None` where nothing is.
    pub fn eval_loss(&mut self) -> Option<f64> {
        let held_out = self.windows.held_out();
        if held_out.is_empty() {
            return None;
        }
        let mut sums = Sums::default();
        for row in held_out {
            let buffer = self.windows.fill(&[row]);
            let rows = Rows { ids: &buffer.ids, labels: &buffer.labels, n_tokens: self.windows.n_tokens() };
            sums = sums.and(self.pupil.loss(&self.model, rows));
        }
        Some(sums.cross_entropy())
    }

    /// The next step.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss is no number any more.
    pub fn step(&mut self) -> Result<FinetuneReport> {
        let n_tokens = self.windows.n_tokens();
        let buffers: Vec<_> = (0..self.settings.gradient_accumulation_steps)
            .map(|_| {
                let rows = self.take_rows(self.settings.batch_size);
                self.windows.fill(&rows)
            })
            .collect();
        let rows: Vec<_> =
            buffers.iter().map(|buffer| Rows { ids: &buffer.ids, labels: &buffer.labels, n_tokens }).collect();
        let report = self.pupil.step(&self.model, &rows)?;
        let step = self.pupil.state().step;
        let interval = (self.n_steps / N_EVALUATIONS).max(1);
        let is_due = step.is_multiple_of(interval) || step == self.n_steps;
        let eval_loss = if is_due { self.eval_loss() } else { None };
        let mut is_best = !self.windows.has_held_out();
        if let Some(loss) = eval_loss {
            is_best = loss < self.best_loss;
            self.n_worse = if is_best { 0 } else { self.n_worse + 1 };
            self.best_loss = self.best_loss.min(loss);
        }
        Ok(FinetuneReport {
            step,
            steps: self.n_steps,
            loss: report.sums.cross_entropy(),
            eval_loss,
            learning_rate: report.rate,
            grad_norm: report.grad_norm,
            n_tokens: report.sums.n_labels,
            is_last: step >= self.n_steps || self.n_worse >= PATIENCE,
            is_best,
        })
    }

    /// The next rows, from the next epoch where this one is over.
    fn take_rows(&mut self, n: usize) -> Vec<Range<usize>> {
        let mut taken = Vec::with_capacity(n);
        while taken.len() < n {
            if self.n_used == self.rows.len() {
                self.epoch += 1;
                self.rows = self.windows.epoch(self.epoch, self.settings.seed);
                self.n_used = 0;
            }
            taken.push(self.rows[self.n_used].clone());
            self.n_used += 1;
        }
        taken
    }
}

/// What a fine-tuning would learn from, and in how many steps.
///
/// # Errors
/// [`Error::Option`] names what cannot be used.
pub fn plan(model: &Model, texts: &[Vec<u32>], settings: &FinetuneSettings) -> Result<(Windows, u64)> {
    settings.check()?;
    if let Some(id) = texts.iter().flatten().find(|&&id| id as usize >= model.config.vocab_size) {
        return Err(Error::option("text", format!("token ids below {}", model.config.vocab_size), id));
    }
    let max_length = settings.max_length.min(model.config.n_positions);
    let windows = Windows::new(texts, max_length, settings.eval_fraction)?;
    let n_rows = settings.batch_size.saturating_mul(settings.gradient_accumulation_steps);
    let per_epoch = windows.n_rows().div_ceil(n_rows) as f64;
    let n_steps = settings.steps.unwrap_or((per_epoch * settings.epochs).ceil() as u64).max(1);
    Ok((windows, n_steps))
}

/// Bytes that fine-tuning takes at its peak, without the program: the model's parameters, activations of a row, logits,
/// and of what learns gradients and moments.
///
/// # Errors
/// [`Error::Option`] names a setting that cannot be used.
pub fn estimate_bytes(model: &Model, settings: &FinetuneSettings) -> Result<u64> {
    let config = &model.config;
    let n_params = model.layout.n_params as u64;
    let learning = match settings.method {
        Method::Lora => 5 * settings.lora().layout(config)?.n_params as u64,
        // gradients, two moments, and a copy of everything for whoever goes on later
        Method::Full => 6 * n_params,
    };
    let t = settings.max_length.min(config.n_positions) as u64;
    let (c, inner) = (config.n_embd as u64, config.n_inner as u64);
    let block = t * (8 * c + 2 * inner) + 2 * t * c; // what a block keeps: see `BlockActs`
    let logits = t.min(256) * config.vocab_size as u64;
    let scratch = t * (6 * c + inner) + 4 * t * c;
    Ok(4 * (n_params + learning + config.n_layer as u64 * block + logits + scratch))
}
