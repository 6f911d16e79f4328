//! A model that learns on one device or on several, each of which takes a share of the rows (data parallelism).

use burn::tensor::{Device, Tensor, TensorData};

use super::adamw::{self, Updated};
use super::model::Replica;
use super::muon;
use crate::fused::{Model, Rows, Sums, count};
use crate::train::{Batch, Precision, Recipe, State, StepReport};
use crate::{Error, Result};

/// What the loss is multiplied by before the way back, so that small gradients are numbers in 16 bits.
const FIRST_SCALE: f32 = 65536.0;
/// After so many steps without an overflow the factor doubles.
const STEPS_TO_DOUBLE: u64 = 1000;

/// A step whose loss is still on the device.
#[derive(Debug)]
struct Unread {
    n_labels: usize,
    rate: f64,
    /// Σ -ln p(label), and the gradients' norm: \[2\]
    numbers: Tensor<1>,
}

/// A model that learns on devices of Burn.
#[derive(Debug)]
pub struct DeviceLearner {
    model: Model,
    recipe: Recipe,
    precision: Precision,
    replicas: Vec<Replica>,
    /// Parameters and moments, one for each slot, on the first device and without autodiff.
    params: Vec<Tensor<1>>,
    first: Vec<Tensor<1>>,
    second: Vec<Tensor<1>>,
    step: u64,
    unread: Vec<Unread>,
    /// Losses are read after so many steps.
    read_every: usize,
    scale: f32,
    n_without_overflow: u64,
}

impl DeviceLearner {
    /// A learner that goes on from `state`. devices: with autodiff, at least one
    ///
    /// # Errors
    /// [`Error::Option`] for dropout, or a precision that a device does not have.
    pub fn new(
        model: Model,
        recipe: Recipe,
        state: &State,
        devices: &[Device],
        precision: Precision,
        read_every: usize,
    ) -> Result<Self> {
        if model.rates != Default::default() {
            return Err(Error::option("device", "cpu, for a model whose configuration has dropout", "another one"));
        }
        let dtype = precision.dtype();
        if let Some(device) = devices.iter().find(|device| !device.supports_dtype(dtype)) {
            let found = format!("{} on {:?}", precision.name(), device.clone().inner());
            return Err(Error::option("precision", "one that the device computes in", found));
        }
        let replica = |device: &Device| Replica::new(&model, &state.params, device.clone(), dtype);
        let replicas: Vec<Replica> = devices.iter().map(replica).collect();
        let Some(first_device) = devices.first() else {
            return Err(Error::option("device", "at least one", "none"));
        };
        let home = first_device.clone().inner();
        let tensors = |values: &[f32]| -> Vec<Tensor<1>> {
            let of = |range: std::ops::Range<usize>| TensorData::new(values[range.clone()].to_vec(), [range.len()]);
            model.layout.slots.iter().map(|slot| Tensor::from_data(of(slot.range.clone()), &home)).collect()
        };
        let (params, first, second) = (tensors(&state.params), tensors(&state.first), tensors(&state.second));
        let scale = if precision == Precision::F16 { FIRST_SCALE } else { 1.0 };
        let (step, unread, n_without_overflow) = (state.step, Vec::new(), 0);
        let read_every = read_every.max(1);
        Ok(Self {
            model,
            recipe,
            precision,
            replicas,
            params,
            first,
            second,
            step,
            unread,
            read_every,
            scale,
            n_without_overflow,
        })
    }

    /// Steps done.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// One step on the rows of all batches together. → what the steps showed whose losses were read, oldest first
    ///
    /// # Errors
    /// [`Error::Diverged`] if one of those losses is no number.
    pub fn step(&mut self, batches: &[Batch]) -> Result<Vec<StepReport>> {
        let n_labels = batches.iter().map(|batch| count(batch.rows.labels)).sum::<usize>().max(1);
        let (nll, grads) = self.gradients(batches, n_labels)?;
        let norm = global_norm(&grads) / self.scale;
        let rate = self.recipe.schedule.at(self.step);
        let numbers = Tensor::cat(vec![nll, norm.clone()], 0);
        if self.precision == Precision::F16 && !self.fits(&norm) {
            return self.step(batches); // the same again, with half the factor
        }
        let factor = match self.recipe.max_norm {
            None => norm.ones_like(),
            Some(max) => ((norm + 1e-6).recip() * max).clamp_max(1.0),
        };
        self.step += 1;
        self.update(grads, factor / self.scale, rate as f32);
        self.unread.push(Unread { n_labels, rate, numbers });
        match self.unread.len() >= self.read_every {
            true => self.read(),
            false => Ok(Vec::new()),
        }
    }

    /// Reads what was not read yet.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss is no number.
    pub fn read(&mut self) -> Result<Vec<StepReport>> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = values(Tensor::cat(unread.iter().map(|unread| unread.numbers.clone()).collect(), 0));
        let first_step = self.step as usize + 1 - unread.len();
        let mut reports = Vec::with_capacity(unread.len());
        for (i, (unread, numbers)) in unread.iter().zip(numbers.chunks_exact(2)).enumerate() {
            let sums = Sums { n_labels: unread.n_labels, nll: f64::from(numbers[0]), kl: 0.0 };
            let grad_norm = f64::from(numbers[1]);
            if !sums.nll.is_finite() || !grad_norm.is_finite() {
                return Err(Error::Diverged { step: first_step + i, loss: sums.cross_entropy() });
            }
            reports.push(StepReport { sums, grad_norm, rate: unread.rate });
        }
        Ok(reports)
    }

    /// The loss of some rows with what has been learnt so far.
    ///
    /// # Errors
    /// None, unless the model was damaged.
    pub fn loss(&self, rows: Rows, rows_at_once: usize) -> Result<Sums> {
        let n = rows_at_once.max(1) * rows.n_tokens;
        let mut sums = Sums { n_labels: count(rows.labels), ..Sums::default() };
        for (ids, labels) in rows.ids.chunks(n).zip(rows.labels.chunks(n)) {
            let loss = self.replicas[0].score(&self.model, Rows { ids, labels, n_tokens: rows.n_tokens })?;
            sums.nll += f64::from(values(loss)[0]);
        }
        Ok(sums)
    }

    /// All that a checkpoint has to hold.
    pub fn state(&self) -> State {
        let flat = |tensors: &[Tensor<1>]| values(Tensor::cat(tensors.to_vec(), 0));
        State { step: self.step, params: flat(&self.params), first: flat(&self.first), second: flat(&self.second) }
    }

    /// Loss and gradients of all batches, on the first device. The gradients are those of the mean, times `scale`.
    fn gradients(&self, batches: &[Batch], n_labels: usize) -> Result<(Tensor<1>, Vec<Tensor<1>>)> {
        let home = self.params[0].device();
        let mut total: Option<(Tensor<1>, Vec<Tensor<1>>)> = None;
        for Batch { rows, .. } in batches {
            let n_rows = rows.ids.len() / rows.n_tokens;
            let n_devices = self.replicas.len();
            // all devices are under way before the first result is moved
            let mut parts = Vec::with_capacity(n_devices);
            for (i, replica) in self.replicas.iter().enumerate() {
                let share = i * n_rows / n_devices * rows.n_tokens..(i + 1) * n_rows / n_devices * rows.n_tokens;
                if share.is_empty() {
                    continue;
                }
                let (ids, labels) = (&rows.ids[share.clone()], &rows.labels[share]);
                let loss = replica.loss(&self.model, Rows { ids, labels, n_tokens: rows.n_tokens })?;
                let mut grads = (loss.clone() * (self.scale / n_labels as f32)).backward();
                parts.push((loss.inner(), replica.gradients(&mut grads)));
            }
            for (loss, grads) in parts {
                let grads = grads.into_iter().map(|grad| grad.to_device(&home));
                let loss = loss.to_device(&home);
                total = Some(match total {
                    None => (loss, grads.collect()),
                    Some((sum, before)) => (sum + loss, before.into_iter().zip(grads).map(|(a, b)| a + b).collect()),
                });
            }
        }
        total.ok_or_else(|| Error::option("rows", "at least one", "none"))
    }

    /// Whether the gradients are numbers; if not, the factor of the loss is halved.
    fn fits(&mut self, norm: &Tensor<1>) -> bool {
        let is_finite = values(norm.clone())[0].is_finite();
        self.n_without_overflow = if is_finite { self.n_without_overflow + 1 } else { 0 };
        if !is_finite && self.scale > 1.0 {
            self.scale /= 2.0;
            return false;
        }
        if self.n_without_overflow >= STEPS_TO_DOUBLE {
            (self.scale, self.n_without_overflow) = (self.scale * 2.0, 0);
        }
        true
    }

    /// factor: \[1\], what the gradients are multiplied by
    fn update(&mut self, grads: Vec<Tensor<1>>, factor: Tensor<1>, rate: f32) {
        for (i, (slot, grad)) in self.model.layout.slots.iter().zip(grads).enumerate() {
            let grad = grad * factor.clone();
            let param = self.params[i].clone();
            match self.recipe.muon {
                Some(muon) if slot.is_block_matrix() => {
                    let momentum = self.first[i].clone();
                    (self.params[i], self.first[i]) = muon::update(muon, slot, param, momentum, grad, rate);
                }
                _ => {
                    let before = Updated { param, first: self.first[i].clone(), second: self.second[i].clone() };
                    let after = adamw::update(self.recipe.adamw, before, grad, slot.decays(), self.step, rate);
                    (self.params[i], self.first[i], self.second[i]) = (after.param, after.first, after.second);
                }
            }
        }
        self.replicas.iter_mut().for_each(|replica| replica.copy_from(&self.params));
    }
}

/// The Euclidean norm of all gradients together: \[1\]
fn global_norm(grads: &[Tensor<1>]) -> Tensor<1> {
    let squares = grads.iter().map(|grad| grad.clone().square().sum()).collect();
    Tensor::cat(squares, 0).sum().sqrt()
}

fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
