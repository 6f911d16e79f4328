//! A model that learns: parameters, the optimizer's moments, and one step after the other.

use std::ops::Range;

use web_time::{Duration, Instant};

use crate::fused::{LaneOptions, Lanes, Model, Phases, Rows, Sums, Task, Teacher, count};
use crate::optim::{AdamW, Buffers, Muon, Schedule, Update, clip_factor, norm};
use crate::{Error, Result};

/// How a model is updated. With the data and the start, it decides every bit of the result.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// For what Muon does not update.
    pub adamw: AdamW,
    /// For the blocks' matrices, if chosen.
    pub muon: Option<Muon>,
    /// The learning rate.
    pub schedule: Schedule,
    /// The norm that gradients are clipped to.
    pub max_norm: Option<f64>,
    /// How a batch is spread over threads.
    pub lanes: LaneOptions,
}

/// What is kept from step to step; all of a run that a checkpoint has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// θ
    pub params: Vec<f32>,
    /// Adam's first moment, or Muon's momentum.
    pub first: Vec<f32>,
    /// Adam's second moment.
    pub second: Vec<f32>,
}

impl State {
    /// The start: nothing learnt yet.
    pub fn new(params: Vec<f32>) -> Self {
        let zeros = vec![0.0; params.len()];
        Self { step: 0, params, first: zeros.clone(), second: zeros }
    }
}

/// Rows for one step, or a part of them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// Decides the dropout masks.
    pub dropout_seed: Option<u64>,
}

/// What one step showed.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Losses before the update.
    pub sums: Sums,
    /// Of all gradients together, before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// Where the time went, over some steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepPhases {
    /// Inside the passes, of the first lane.
    pub pass: Phases,
    /// Waiting for the rows of a step.
    pub rows: Duration,
    /// Adding the lanes' gradients, the norm and the update.
    pub update: Duration,
    /// Whole steps on Burn's devices.
    pub devices: Duration,
}

/// A model that learns.
#[derive(Debug)]
pub struct Learner {
    /// Its shape.
    pub model: Model,
    /// How it is updated.
    pub recipe: Recipe,
    /// What it has learnt.
    pub state: State,
    /// Where the time went since this was last set back.
    pub phases: StepPhases,
    /// Which parameters stay 0, in ascending order: those that were pruned.
    pub zeros: Vec<usize>,
    lanes: Lanes,
    /// What AdamW updates, with whether it decays: neighbours of one kind are one span.
    spans: Vec<(Range<usize>, bool)>,
}

impl Learner {
    /// A learner that goes on from `state`.
    pub fn new(model: Model, recipe: Recipe, state: State) -> Self {
        let mut spans: Vec<(Range<usize>, bool)> = Vec::new();
        for slot in &model.layout.slots {
            if recipe.muon.is_some() && slot.is_block_matrix() {
                continue;
            }
            match spans.last_mut() {
                Some((span, decays)) if *decays == slot.decays() && span.end == slot.range.start => {
                    span.end = slot.range.end;
                }
                _ => spans.push((slot.range.clone(), slot.decays())),
            }
        }
        let (lanes, phases) = (Lanes::new(recipe.lanes), StepPhases::default());
        Self { model, recipe, state, phases, zeros: Vec::new(), lanes, spans }
    }

    /// One step on the rows of all `batches` together (gradient accumulation): the loss is divided by the number of
    /// labels in all of them.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or the gradients are no numbers; the parameters are as they were before.
    pub fn step(&mut self, batches: &[Batch], teacher: Option<Teacher>) -> Result<StepReport> {
        let n_labels = batches.iter().map(|batch| count(batch.rows.labels)).sum::<usize>().max(1);
        self.lanes.clear();
        let mut sums = Sums::default();
        for Batch { rows, dropout_seed } in batches.iter().copied() {
            let task = Task { rows, dropout_seed, teacher, lora: None };
            sums = sums.and(self.lanes.add_gradients(&self.model, &self.state.params, task, n_labels));
        }
        let began = Instant::now();
        let grads = self.lanes.gradients();
        let grad_norm = norm(grads);
        if !sums.nll.is_finite() || !grad_norm.is_finite() {
            return Err(Error::Diverged { step: self.state.step as usize + 1, loss: sums.cross_entropy() });
        }
        let rate = self.recipe.schedule.at(self.state.step);
        self.state.step += 1;
        let factor = clip_factor(grad_norm, self.recipe.max_norm);
        let update = Update { step: self.state.step, rate: rate as f32, factor };
        let State { params, first, second, .. } = &mut self.state;
        let n_threads = self.recipe.lanes.n_lanes;
        if let Some(muon) = &self.recipe.muon {
            muon.update(&self.model.layout, params, grads, first, update, n_threads);
        }
        let buffers = Buffers { params, grads, first, second };
        self.recipe.adamw.update(buffers, &self.spans, update, n_threads);
        self.zeros.iter().for_each(|&at| self.state.params[at] = 0.0);
        self.phases.update += began.elapsed();
        let pass = self.lanes.take_phases();
        self.phases.pass.forward += pass.forward;
        self.phases.pass.head += pass.head;
        self.phases.pass.backward += pass.backward;
        Ok(StepReport { sums, grad_norm, rate })
    }

    /// The gradients of a batch, as a step would see them before clipping, in the model's layout.
    pub fn gradients(&mut self, batch: Batch, teacher: Option<Teacher>) -> (Sums, &[f32]) {
        self.lanes.clear();
        let task = Task { rows: batch.rows, dropout_seed: batch.dropout_seed, teacher, lora: None };
        let n_labels = count(batch.rows.labels).max(1);
        let sums = self.lanes.add_gradients(&self.model, &self.state.params, task, n_labels);
        (sums, self.lanes.gradients())
    }

    /// The loss of some rows with what has been learnt so far.
    pub fn loss(&mut self, rows: Rows) -> Sums {
        let task = Task { rows, dropout_seed: None, teacher: None, lora: None };
        self.lanes.loss(&self.model, &self.state.params, task)
    }
}
