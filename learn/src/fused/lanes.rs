//! A batch on several threads: data parallelism. Each lane takes its share of the rows and has gradients of its own,
//! which are added in the lanes' order, so that a result depends on the number of lanes and never on their timing.

use super::block::FactorGradients;
use super::dropout::RowDropout;
use super::head::{NO_LABEL, Softened, Sums, TeacherRows};
use super::lora::Lora;
use super::math::{add, vectorised};
use super::pass::{Model, PassOptions, Phases, Rows, Workspace};

/// How a batch is worked through. The number of lanes and of rows at once decide the order of sums, so they belong to a
/// run's recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// How many threads.
    pub n_lanes: usize,
    /// How many rows a lane takes at once.
    pub rows_at_once: usize,
    /// Keep only each block's input for the backward pass.
    pub recompute: bool,
}

/// A teacher with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// Its shape.
    pub model: &'a Model,
    /// Its parameters.
    pub params: &'a [f32],
    /// How its distribution counts.
    pub softened: Softened,
}

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// Decides the dropout masks; none drops nothing.
    pub dropout_seed: Option<u64>,
    /// The teacher, where one is learnt from.
    pub teacher: Option<Teacher<'a>>,
    /// The adapter, where it is that which learns.
    pub lora: Option<Lora<'a>>,
}

#[derive(Debug, Default)]
struct Lane {
    space: Workspace,
    teacher_space: Workspace,
    grads: Vec<f32>,
    masks: Vec<RowDropout>,
}

/// The threads' memory, kept from batch to batch.
#[derive(Debug)]
pub struct Lanes {
    options: LaneOptions,
    lanes: Vec<Lane>,
}

impl Lanes {
    /// So many lanes, still without memory.
    pub fn new(options: LaneOptions) -> Self {
        Self { options, lanes: (0..options.n_lanes.max(1)).map(|_| Lane::default()).collect() }
    }

    /// Forgets the gradients of the batch before.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.grads.fill(0.0));
    }

    /// Adds the gradients of a batch, divided by `n_labels`. → its sums
    pub fn add_gradients(&mut self, model: &Model, params: &[f32], task: Task, n_labels: usize) -> Sums {
        let rates = (model.rates != Default::default()).then_some(model.rates).zip(task.dropout_seed);
        self.each(task.rows, |lane, rows, first_row, recompute| {
            lane.grads.resize(task.lora.map_or(model.layout.n_params, |lora| lora.layout.n_params), 0.0);
            let masks = rates.map(|(rates, seed)| {
                let numbers = first_row..first_row + rows.ids.len() / rows.n_tokens;
                lane.masks = numbers.map(|row| RowDropout::new(rates, seed, row)).collect();
                lane.masks.as_slice()
            });
            let teacher = task.teacher.map(|teacher| teacher.rows(rows, &mut lane.teacher_space));
            let options = PassOptions { recompute, dropout: masks, teacher, lora: task.lora, n_labels };
            model.gradients(params, &mut lane.grads, rows, &options, None, &mut lane.space)
        })
    }

    /// The loss of a batch, nothing dropped.
    pub fn loss(&mut self, model: &Model, params: &[f32], task: Task) -> Sums {
        self.each(task.rows, |lane, rows, _, _| {
            let teacher = task.teacher.map(|teacher| teacher.rows(rows, &mut lane.teacher_space));
            model.loss(params, rows, teacher, task.lora, &mut lane.space)
        })
    }

    /// The gradients of everything since [`Self::clear`], as one buffer of the model's layout.
    pub fn gradients(&mut self) -> &mut [f32] {
        let (first, others) = self.lanes.split_at_mut(1);
        for other in others.iter_mut().filter(|lane| !lane.grads.is_empty()) {
            first[0].grads.resize(other.grads.len(), 0.0);
            vectorised(
                #[inline(always)]
                || add(&mut first[0].grads, &other.grads),
            );
            other.grads.fill(0.0);
        }
        &mut first[0].grads
    }

    /// Where the first lane's time went since the last call.
    pub fn take_phases(&mut self) -> Phases {
        std::mem::take(&mut self.lanes[0].space.phases)
    }

    /// Gives each lane its share of the rows, some at once.
    fn each(&mut self, rows: Rows, work: impl Fn(&mut Lane, Rows, usize, bool) -> Sums + Sync) -> Sums {
        let t = rows.n_tokens;
        let (n_rows, n_lanes) = (rows.ids.len() / t, self.lanes.len());
        let LaneOptions { rows_at_once, recompute, .. } = self.options;
        let run = |lane: &mut Lane, i: usize| {
            let share = i * n_rows / n_lanes..(i + 1) * n_rows / n_lanes;
            let mut sums = Sums::default();
            for begin in share.clone().step_by(rows_at_once.max(1)) {
                let tokens = begin * t..share.end.min(begin + rows_at_once.max(1)) * t;
                let rows = Rows { ids: &rows.ids[tokens.clone()], labels: &rows.labels[tokens], n_tokens: t };
                sums = sums.and(work(lane, rows, begin, recompute));
            }
            sums
        };
        let run = &run;
        let (first, others) = self.lanes.split_at_mut(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                others.iter_mut().enumerate().map(|(i, lane)| scope.spawn(move || run(lane, i + 1))).collect();
            let own = run(&mut first[0], 0);
            threads.into_iter().fold(own, |sums, thread| match thread.join() {
                Ok(more) => sums.and(more),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

impl<'a> Teacher<'a> {
    fn rows<'w>(&self, rows: Rows, space: &'w mut Workspace) -> TeacherRows<'w>
    where
        'a: 'w,
    {
        let hidden = self.model.hidden(self.params, rows.ids, rows.n_tokens, space);
        TeacherRows { softened: self.softened, hidden, head: &self.params[self.model.layout.head.clone()] }
    }
}

/// How many of the labels have a loss.
pub fn count(labels: &[i32]) -> usize {
    labels.iter().filter(|&&label| label != NO_LABEL).count()
}

/// Importance of heads and neurons (Michel et al. 2019, eq. 2): the mean over batches of the absolute derivative of a
/// batch's mean loss by a factor on each. batches: (ids, labels) of each
pub fn importance(model: &Model, params: &[f32], batches: &[(Vec<u32>, Vec<i32>)], n_tokens: usize) -> FactorGradients {
    let zeros = |n: usize| vec![vec![0.0; n]; model.config.n_layer];
    let empty = FactorGradients { heads: zeros(model.config.n_head), neurons: zeros(model.config.n_inner) };
    let mut mean = empty.clone();
    let (mut space, mut grads) = (Workspace::default(), vec![0.0; model.layout.n_params]);
    for (ids, labels) in batches {
        let mut factors = empty.clone();
        let n_labels = count(labels);
        for (ids, labels) in ids.chunks(n_tokens).zip(labels.chunks(n_tokens)) {
            let rows = Rows { ids, labels, n_tokens };
            let options = PassOptions { n_labels, ..PassOptions::default() };
            model.gradients(params, &mut grads, rows, &options, Some(&mut factors), &mut space);
        }
        let add = |into: &mut Vec<Vec<f64>>, from: &[Vec<f64>]| {
            for (into, from) in into.iter_mut().flatten().zip(from.iter().flatten()) {
                *into += from.abs() / batches.len() as f64;
            }
        };
        add(&mut mean.heads, &factors.heads);
        add(&mut mean.neurons, &factors.neurons);
    }
    mean
}
