//! A model's packed weights in memory, and how a caller runs it.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::allocation::try_zeroed_slice_box;
use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use crate::cache::Cache;
use crate::format::Dtype;
use crate::forward::{MAX_TOKENS, Pass, Rows};
use crate::layout::{Dims, GROUP, Layout};
use crate::scratch::Scratch;
use crate::team::{Barrier, Platform};

/// A cache line, for the sake of the image's alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A model.
pub struct Model {
    dims: Dims,
    layout: Layout,
    image: Box<[Line]>,
}

/// What a pass gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Row-major [rows, V].
    pub logits: Vec<f32>,
    /// Per block [H, T, S]; empty unless asked for.
    pub attentions: Vec<Vec<f32>>,
}

impl Model {
    /// A model whose weights are all zero so far; `None` if they cannot be held.
    pub fn new(dims: Dims, dtype: Dtype) -> Option<Self> {
        let layout = Layout::new(&dims, dtype)?;
        let n_lines = layout.n_bytes.div_ceil(size_of::<Line>());
        let image = try_zeroed_slice_box(n_lines).ok()?;
        Some(Self { dims, layout, image })
    }

    /// Its hyperparameters.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// Where its tensors lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The packed weights.
    pub fn image(&self) -> &[u8] {
        cast_slice(&self.image)
    }

    /// The packed weights, to be filled.
    pub fn image_mut(&mut self) -> &mut [u8] {
        cast_slice_mut(&mut self.image)
    }

    /// An empty cache: i8 where the weights are integers, f32 otherwise.
    pub fn new_cache(&self) -> Cache {
        Cache::new(&self.dims, matches!(self.layout.dtype, Dtype::Q8 | Dtype::Q4))
    }

    /// Room for a team of `n_members`.
    pub fn scratch(&self, n_members: usize) -> Scratch {
        Scratch::new(&self.dims, n_members)
    }

    /// Goes on with a forward pass, until it is done or the team pauses. → whether it is done
    ///
    /// `cache` must be the same at every call, and nobody else's meanwhile. `team` is called for each part, and must have
    /// every member `run` it.
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
                forward.begin_pass(&self.dims, cache.n_tokens());
            }
            let (ids, rows) = forward.pass();
            let (logits, weights) = (&mut forward.logits, &mut forward.weights);
            let pass = Pass::new(
                self,
                scratch,
                cache,
                &forward.ids[ids.clone()],
                rows,
                logits,
                weights,
                &barrier,
                forward.stage,
            );
            team(&pass);
            if let Some(stage) = pass.paused_before() {
                forward.stage = stage;
                return false;
            }
            cache.advance(ids.len());
            forward.end_pass(&self.dims, cache.n_tokens());
        }
        true
    }

    /// Bytes that a pass allocates: pages of the cache, logits, attention weights (twice, for they are put together).
    pub fn pass_bytes(&self, cache: &Cache, n_ids: usize, rows: Rows, with_attentions: bool) -> usize {
        let n_rows = match rows {
            Rows::None => 0,
            Rows::Last => 1,
            Rows::All => n_ids,
        };
        let n_keys = cache.n_tokens() + n_ids;
        let n_weights = if with_attentions { self.dims.n_layer * self.dims.n_head * n_ids * n_keys } else { 0 };
        cache.reserve_bytes(n_ids) + 8 * n_rows * self.dims.vocab_size.next_multiple_of(GROUP) + 8 * n_weights
    }

    /// [`Self::forward`] on this thread alone.
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

/// A forward pass of any number of ids, and how far it is: passes of at most [`MAX_TOKENS`], one after the other.
#[derive(Default)]
pub struct Forward {
    ids: Vec<u32>,
    rows: Rows,
    with_attentions: bool,
    /// Of the ids.
    n_done: usize,
    /// Of the pass under way.
    stage: usize,
    /// Of the pass under way: [rows, V'/4]
    logits: Vec<[f32; 4]>,
    /// Of the pass under way: [n_layer, H, T, S], or empty
    weights: Vec<f32>,
    /// What it gives, once it is done.
    pub output: Output,
}

impl Forward {
    /// Of ids that are in the vocabulary and fit the context window.
    pub fn new(ids: Vec<u32>, rows: Rows, with_attentions: bool) -> Self {
        Self { ids, rows, with_attentions, ..Self::default() }
    }

    /// The ids of the pass under way, and which logits it gives.
    fn pass(&self) -> (Range<usize>, Rows) {
        let end = self.ids.len().min(self.n_done + MAX_TOKENS);
        let is_last = end == self.ids.len();
        (self.n_done..end, if self.rows == Rows::Last && !is_last { Rows::None } else { self.rows })
    }

    fn begin_pass(&mut self, dims: &Dims, n_past: usize) {
        let (ids, rows) = self.pass();
        let n_rows = match rows {
            Rows::None => 0,
            Rows::Last => 1,
            Rows::All => ids.len(),
        };
        let n_keys = n_past + ids.len();
        self.logits = vec![[0.0; 4]; n_rows * dims.vocab_size.div_ceil(GROUP)];
        if self.with_attentions {
            self.weights = vec![0.0; dims.n_layer * dims.n_head * ids.len() * n_keys];
            let n_all = n_past - self.n_done + self.ids.len();
            // all of it at once, at the first pass
            self.output.attentions.resize_with(dims.n_layer, || vec![0.0; dims.n_head * self.ids.len() * n_all]);
        }
    }

    fn end_pass(&mut self, dims: &Dims, n_keys: usize) {
        let (ids, _) = self.pass();
        for row in self.logits.chunks_exact(dims.vocab_size.div_ceil(GROUP)) {
            self.output.logits.extend_from_slice(&row.as_flattened()[..dims.vocab_size]);
        }
        // [H, T, S] of this pass into [H, T, S] of all
        let n_all = n_keys - ids.end + self.ids.len();
        for (block, into) in
            self.weights.chunks_exact(dims.n_head * ids.len() * n_keys).zip(&mut self.output.attentions)
        {
            for (row, weights) in block.chunks_exact(n_keys).enumerate() {
                let (head, t) = (row / ids.len(), ids.start + row % ids.len());
                into[(head * self.ids.len() + t) * n_all..][..n_keys].copy_from_slice(weights);
            }
        }
        (self.n_done, self.stage) = (ids.end, 0);
    }
}

/// Nobody to wait for.
enum Alone {}

impl Platform for Alone {
    fn sleep(_: &core::sync::atomic::AtomicU32, _: u32) {}
    fn wake(_: &core::sync::atomic::AtomicU32) {}
}
