//! Fine-tuning on a text: rows, steps, the loss on what is kept back, and the best adapter so far.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::config::LoraSettings;
use super::learner::{Base, LoraLearner, LoraRecipe, LoraState};
use super::windows::Windows;
use crate::fused::{LaneOptions, LoraLayout, Model, Rows, Sums};
use crate::optim::{AdamW, Schedule};
use crate::{Error, Result};

/// How often the part that is kept back is scored.
const N_EVALUATIONS: u64 = 20;

/// So many scores in a row that are worse than the best one end the learning.
const PATIENCE: u32 = 4;

/// What is asked for. The names are those of PEFT and of transformers' `TrainingArguments`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneSettings {
    /// The adapter's rank.
    pub r: usize,
    /// The adapter's factor counts as this over the rank.
    pub lora_alpha: f32,
    /// Over the root of the rank.
    pub use_rslora: bool,
    /// Ends of the names of the modules that get one.
    pub target_modules: Vec<String>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How many steps; by default as many as `epochs` make.
    pub steps: Option<u64>,
    /// How often each token is learnt from.
    pub epochs: f64,
    /// Rows at once.
    pub batch_size: usize,
    /// How many times so many rows make a step.
    pub gradient_accumulation_steps: usize,
    /// Tokens in a row.
    pub max_length: usize,
    /// Steps in which the rate rises.
    pub warmup_steps: Option<u64>,
    /// The share of the text that is kept back.
    pub eval_fraction: f64,
    /// Decides the start and the order.
    pub seed: u64,
}

impl Default for FinetuneSettings {
    fn default() -> Self {
        let LoraSettings { r, lora_alpha, use_rslora, .. } = LoraSettings::default();
        // a few pages have few rows: every matrix learns from each of them
        let target_modules = ["c_attn", "c_proj", "c_fc"].map(String::from).to_vec();
        Self {
            r,
            lora_alpha,
            use_rslora,
            target_modules,
            learning_rate: 1e-3,
            steps: None,
            epochs: 3.0,
            batch_size: 1,
            gradient_accumulation_steps: 1,
            max_length: 256,
            warmup_steps: None,
            eval_fraction: 0.1,
            seed: 0,
        }
    }
}

impl FinetuneSettings {
    /// The adapter.
    pub fn lora(&self) -> LoraSettings {
        LoraSettings {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules.clone(),
        }
    }

    fn check(&self) -> Result<()> {
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(Error::option("learning_rate", "a number above 0", rate));
        }
        if !(self.epochs > 0.0 && self.epochs.is_finite()) {
            return Err(Error::option("epochs", "a number above 0", self.epochs));
        }
        for (option, n) in [
            ("batch_size", self.batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("max_length", self.max_length),
        ] {
            if n == 0 {
                return Err(Error::option(option, "a whole number above 0", n));
            }
        }
        match self.steps {
            Some(0) => Err(Error::option("steps", "a whole number above 0", 0)),
            _ => Ok(()),
        }
    }
}

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
    /// Tokens that the step learnt from.
    pub n_tokens: usize,
    /// Whether it was the last one: all are done, or what is kept back gets worse.
    pub is_last: bool,
    /// Whether the adapter is the best so far, which it is after every step where nothing is kept back.
    pub is_best: bool,
}

/// An adapter that learns a text.
pub struct Finetune {
    model: Model,
    base: Vec<f32>,
    pub(super) settings: FinetuneSettings,
    pub(super) windows: Windows,
    pub(super) learner: LoraLearner,
    n_steps: u64,
    /// The rows of this epoch, of which the first `n_used` are done.
    pub(super) rows: Vec<Range<usize>>,
    pub(super) n_used: usize,
    pub(super) epoch: u64,
    pub(super) best_loss: f64,
    pub(super) n_worse: u32,
}

impl Finetune {
    /// Begins, with the text's tokens.
    ///
    /// # Errors
    /// [`Error::Option`] names what cannot be used.
    pub fn new(model: Model, base: Vec<f32>, texts: &[Vec<u32>], settings: FinetuneSettings) -> Result<Self> {
        let (windows, n_steps) = plan(&model, texts, &settings)?;
        let schedule = Schedule {
            rate: settings.learning_rate,
            warmup_steps: settings.warmup_steps.unwrap_or(n_steps / 20),
            steps: n_steps,
            last_share: 0.1,
            cooldown_steps: None,
        };
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
        let lanes = LaneOptions { n_lanes: 1, rows_at_once: 1, recompute: false };
        let recipe = LoraRecipe { adamw, schedule, max_norm: Some(1.0), lanes };
        let layout = settings.lora().layout(&model.config)?;
        let state = LoraState::new(&layout, settings.seed);
        let learner = LoraLearner::new(layout, recipe, state);
        let rows = windows.epoch(0, settings.seed);
        let best_loss = f64::INFINITY;
        Ok(Self { model, base, settings, windows, learner, n_steps, rows, n_used: 0, epoch: 0, best_loss, n_worse: 0 })
    }

    /// Where the adapter's parameters stand.
    pub fn layout(&self) -> &LoraLayout {
        &self.learner.layout
    }

    /// The adapter's parameters now.
    pub fn params(&self) -> &[f32] {
        &self.learner.state.params
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
        let base = Base { model: &self.model, params: &self.base };
        let mut sums = Sums::default();
        for row in held_out {
            let buffer = self.windows.fill(&[row]);
            let rows = Rows { ids: &buffer.ids, labels: &buffer.labels, n_tokens: self.windows.n_tokens() };
            sums = sums.and(self.learner.loss(base, rows));
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
        let base = Base { model: &self.model, params: &self.base };
        let report = self.learner.step(base, &rows)?;
        let step = self.learner.state.step;
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

/// Bytes that fine-tuning takes at its peak, without the program: parameters, activations of a row, logits, and the
/// adapter with its gradients and moments.
///
/// # Errors
/// [`Error::Option`] names a setting that cannot be used.
pub fn estimate_bytes(model: &Model, settings: &FinetuneSettings) -> Result<u64> {
    let config = &model.config;
    let layout = settings.lora().layout(config)?;
    let t = settings.max_length.min(config.n_positions) as u64;
    let (c, inner) = (config.n_embd as u64, config.n_inner as u64);
    let block = t * (8 * c + 2 * inner) + 2 * t * c; // what a block keeps: see `BlockActs`
    let logits = t.min(256) * config.vocab_size as u64;
    let scratch = t * (6 * c + inner) + 4 * t * c;
    let numbers = model.layout.n_params as u64 + config.n_layer as u64 * block + logits + scratch;
    Ok(4 * (numbers + 5 * layout.n_params as u64))
}
