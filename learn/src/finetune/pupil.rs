//! What learns: an adapter beside a model, or the model itself.

use super::settings::{FinetuneSettings, Method};
use crate::Result;
use crate::fused::{LaneOptions, LoraLayout, Model, Rows, Sums};
use crate::lora::{Base, LoraLearner, LoraRecipe, start};
use crate::optim::{AdamW, Schedule};
use crate::train::{Batch, Learner, Recipe, State, StepReport};

/// What learns.
#[derive(Debug)]
pub(super) enum Pupil {
    /// An adapter; `base` are the model's parameters, which stay as they are.
    Lora { base: Vec<f32>, learner: Box<LoraLearner> },
    /// Every parameter.
    Full(Box<Learner>),
}

impl Pupil {
    /// What the settings ask for. params: the model's
    pub fn new(model: &Model, params: Vec<f32>, settings: &FinetuneSettings, schedule: Schedule) -> Result<Self> {
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
        let lanes = LaneOptions { n_lanes: 1, rows_at_once: 1, recompute: false };
        let max_norm = Some(1.0);
        Ok(match settings.method {
            Method::Lora => {
                let layout = settings.lora().layout(&model.config)?;
                let state = State::new(start(&layout, settings.seed));
                let learner = LoraLearner::new(layout, LoraRecipe { adamw, schedule, max_norm, lanes }, state);
                Self::Lora { base: params, learner: Box::new(learner) }
            }
            Method::Full => {
                let recipe = Recipe { adamw, muon: None, schedule, max_norm, lanes };
                Self::Full(Box::new(Learner::new(model.clone(), recipe, State::new(params))))
            }
        })
    }

    /// One step on all of these rows together.
    pub fn step(&mut self, model: &Model, rows: &[Rows]) -> Result<StepReport> {
        match self {
            Self::Lora { base, learner } => learner.step(Base { model, params: base }, rows),
            Self::Full(learner) => {
                let batches: Vec<Batch> = rows.iter().map(|&rows| Batch { rows, dropout_seed: None }).collect();
                learner.step(&batches, None)
            }
        }
    }

    /// The loss of some rows with what has been learnt so far.
    pub fn loss(&mut self, model: &Model, rows: Rows) -> Sums {
        match self {
            Self::Lora { base, learner } => learner.loss(Base { model, params: base }, rows),
            Self::Full(learner) => learner.loss(rows),
        }
    }

    /// Steps done, parameters and moments of what learns.
    pub fn state(&self) -> &State {
        match self {
            Self::Lora { learner, .. } => &learner.state,
            Self::Full(learner) => &learner.state,
        }
    }

    pub fn state_mut(&mut self) -> &mut State {
        match self {
            Self::Lora { learner, .. } => &mut learner.state,
            Self::Full(learner) => &mut learner.state,
        }
    }

    pub fn lora_layout(&self) -> Option<&LoraLayout> {
        match self {
            Self::Lora { learner, .. } => Some(&learner.layout),
            Self::Full(_) => None,
        }
    }
}
