//! An adapter that learns, step by step.

use crate::fused::{LaneOptions, Lanes, Lora, LoraLayout, Model, Rows, Sums, Task, count};
use crate::optim::{AdamW, Buffers, Schedule, Update, clip_factor, norm};
use crate::train::{State, StepReport};
use crate::{Error, Result};

/// How an adapter is updated.
#[derive(Clone, Copy, Debug)]
pub struct LoraRecipe {
    /// For all of its parameters.
    pub adamw: AdamW,
    /// The learning rate.
    pub schedule: Schedule,
    /// The norm that gradients are clipped to.
    pub max_norm: Option<f64>,
    /// How a batch is spread over threads.
    pub lanes: LaneOptions,
}

/// The model beside which an adapter learns.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// Its shape.
    pub model: &'a Model,
    /// Its parameters, which stay as they are.
    pub params: &'a [f32],
}

/// An adapter that learns. Each call has to be given the same base.
#[derive(Debug)]
pub struct LoraLearner {
    /// Where the adapter's are.
    pub layout: LoraLayout,
    /// How it is updated.
    pub recipe: LoraRecipe,
    /// What it has learnt.
    pub state: State,
    lanes: Lanes,
}

impl LoraLearner {
    /// A learner that goes on from `state`.
    pub fn new(layout: LoraLayout, recipe: LoraRecipe, state: State) -> Self {
        Self { layout, recipe, state, lanes: Lanes::new(recipe.lanes) }
    }

    /// One step on the rows of all `batches` together (gradient accumulation).
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or the gradients are no numbers; the adapter is as it was before.
    pub fn step(&mut self, base: Base, batches: &[Rows]) -> Result<StepReport> {
        let sums = self.add_gradients(base, batches);
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
        let spans = [(0..params.len(), true)];
        self.recipe.adamw.update(Buffers { params, grads, first, second }, &spans, update, self.recipe.lanes.n_lanes);
        Ok(StepReport { sums, grad_norm, rate })
    }

    /// The gradients of some rows, as a step would see them before clipping, in the adapter's layout.
    pub fn gradients(&mut self, base: Base, batches: &[Rows]) -> (Sums, &[f32]) {
        let sums = self.add_gradients(base, batches);
        (sums, self.lanes.gradients())
    }

    /// The loss of some rows with what has been learnt so far.
    pub fn loss(&mut self, base: Base, rows: Rows) -> Sums {
        let lora = Some(Lora { layout: &self.layout, params: &self.state.params });
        self.lanes.loss(base.model, base.params, Task { rows, dropout_seed: None, teacher: None, lora })
    }

    fn add_gradients(&mut self, base: Base, batches: &[Rows]) -> Sums {
        let n_labels = batches.iter().map(|rows| count(rows.labels)).sum::<usize>().max(1);
        let lora = Some(Lora { layout: &self.layout, params: &self.state.params });
        self.lanes.clear();
        let mut sums = Sums::default();
        for &rows in batches {
            let task = Task { rows, dropout_seed: None, teacher: None, lora };
            sums = sums.and(self.lanes.add_gradients(base.model, base.params, task, n_labels));
        }
        sums
    }
}
