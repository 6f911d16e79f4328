//! A forward pass of any number of tokens: ids in, logits out.
//!
//! A pass is at most [`MAX_TOKENS`] long, because the scratch is; [`Forward`] runs as many of them as the ids need. In
//! reading order: `rows` (which logits), `stages` (the work), `pass` (how a team gets through the stages).

mod pass;
mod rows;
mod stages;

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicU32;

pub use pass::Pass;
pub use rows::Rows;

use crate::cache::Cache;
use crate::dims::Dims;
use crate::limits::{GROUP, MAX_TOKENS};
use crate::model::PackedModel;
use crate::scratch::Scratch;
use crate::team::{Barrier, Platform};

/// What a forward pass gives back, for T new tokens and S in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Row-major [rows, V].
    pub logits: Vec<f32>,
    /// Attention weights of each block, [H, T, S]; no block unless they were asked for.
    pub attentions: Vec<Vec<f32>>,
}

/// A forward pass of any number of ids, and how much of it is done.
#[derive(Default)]
pub struct Forward {
    ids: Vec<u32>,
    rows: Rows,
    with_attentions: bool,
    /// How many of the ids are done: those of the passes before the current one.
    n_done: usize,
    /// The stage that the current pass goes on with.
    stage: usize,
    /// Of the current pass: [rows, V'/4]
    logits: Vec<[f32; 4]>,
    /// Of the current pass: [n_layer, H, T, S], or empty
    attentions: Vec<f32>,
    /// The result, whole once [`PackedModel::forward`] has returned `true`.
    pub output: Output,
}

impl Forward {
    /// A forward pass of ids that are in the vocabulary and fit the context window behind what the cache holds.
    pub fn new(ids: Vec<u32>, rows: Rows, with_attentions: bool) -> Self {
        Self { ids, rows, with_attentions, ..Self::default() }
    }

    /// The ids of the current pass, and which logits it computes.
    fn pass(&self) -> (Range<usize>, Rows) {
        let end = self.ids.len().min(self.n_done + MAX_TOKENS);
        let is_last = end == self.ids.len();
        (self.n_done..end, if self.rows == Rows::Last && !is_last { Rows::None } else { self.rows })
    }

    fn begin_pass(&mut self, dims: &Dims, n_past: usize) {
        let (ids, rows) = self.pass();
        let n_rows = rows.tokens(ids.len()).len();
        let n_keys = n_past + ids.len();
        self.logits = vec![[0.0; 4]; n_rows * dims.vocab_size.div_ceil(GROUP)];
        if self.with_attentions {
            self.attentions = vec![0.0; dims.n_layer * dims.n_head * ids.len() * n_keys];
            let n_all = n_past - self.n_done + self.ids.len();
            // the first pass makes room for all of them
            self.output.attentions.resize_with(dims.n_layer, || vec![0.0; dims.n_head * self.ids.len() * n_all]);
        }
    }

    fn end_pass(&mut self, dims: &Dims, n_keys: usize) {
        let (ids, _) = self.pass();
        for row in self.logits.chunks_exact(dims.vocab_size.div_ceil(GROUP)) {
            self.output.logits.extend_from_slice(&row.as_flattened()[..dims.vocab_size]);
        }
        // [H, T, S] of this pass go into [H, T, S] of all passes
        let n_all = n_keys - ids.end + self.ids.len();
        for (block, into) in
            self.attentions.chunks_exact(dims.n_head * ids.len() * n_keys).zip(&mut self.output.attentions)
        {
            for (row, weights) in block.chunks_exact(n_keys).enumerate() {
                let (head, t) = (row / ids.len(), ids.start + row % ids.len());
                into[(head * self.ids.len() + t) * n_all..][..n_keys].copy_from_slice(weights);
            }
        }
        (self.n_done, self.stage) = (ids.end, 0);
    }
}

impl PackedModel {
    /// Goes on with a forward pass until it is done or the team pauses. → whether it is done
    ///
    /// Every call for one [`Forward`] must be given the same cache, and nothing else may change that cache between the
    /// calls. `team` is called once for each pass and each pause; it must have every member `run` the pass that it is
    /// given.
    pub fn forward(
        &self,
        forward: &mut Forward,
        scratch: &mut Scratch,
        cache: &mut Cache,
        mut team: impl FnMut(&Pass),
    ) -> bool {
        let barrier = Barrier::default();
        while forward.n_done < forward.ids.len() {
            if forward.stage == 0 {
                forward.begin_pass(self.dims(), cache.n_tokens());
            }
            let (ids, rows) = forward.pass();
            let (logits, attentions) = (&mut forward.logits, &mut forward.attentions);
            let pass = Pass::new(
                self,
                scratch,
                cache,
                &forward.ids[ids.clone()],
                rows,
                logits,
                attentions,
                &barrier,
                forward.stage,
            );
            team(&pass);
            if let Some(stage) = pass.paused_before() {
                forward.stage = stage;
                return false;
            }
            cache.advance(ids.len());
            forward.end_pass(self.dims(), cache.n_tokens());
        }
        true
    }

    /// Bytes that a forward pass allocates: pages of the cache, and twice the logits and attention weights, which are
    /// copied from the passes into the output.
    pub fn pass_bytes(&self, cache: &Cache, n_ids: usize, rows: Rows, with_attentions: bool) -> usize {
        let dims = self.dims();
        let n_rows = rows.tokens(n_ids).len();
        let n_keys = cache.n_tokens() + n_ids;
        let n_weights = if with_attentions { dims.n_layer * dims.n_head * n_ids * n_keys } else { 0 };
        cache.reserve_bytes(n_ids) + 8 * n_rows * dims.vocab_size.next_multiple_of(GROUP) + 8 * n_weights
    }

    /// [`Self::forward`] on this thread alone, without pauses.
    pub fn forward_alone(
        &self,
        scratch: &mut Scratch,
        cache: &mut Cache,
        ids: &[u32],
        rows: Rows,
        with_attentions: bool,
    ) -> Output {
        debug_assert_eq!(scratch.n_members(), 1);
        let mut forward = Forward::new(ids.to_vec(), rows, with_attentions);
        self.forward(&mut forward, scratch, cache, |pass| pass.run::<Alone>(0));
        forward.output
    }
}

/// A platform for one thread, which waits for nobody.
enum Alone {}

impl Platform for Alone {
    fn sleep(_: &AtomicU32, _: u32) {}
    fn wake(_: &AtomicU32) {}
}
