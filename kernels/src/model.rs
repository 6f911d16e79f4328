//! A model's packed weights in memory, and how a caller runs it.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use crate::cache::Cache;
use crate::format::Dtype;
use crate::forward::{MAX_TOKENS, Pass, Rows, Scratch};
use crate::layout::{Dims, GROUP, Layout};
use crate::team::{Barrier, Futex};

/// A cache line, for the sake of the image's alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A model.
pub struct Model {
    dims: Dims,
    layout: Layout,
    image: Vec<Line>,
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
        let mut image = Vec::new();
        image.try_reserve_exact(n_lines).ok()?;
        image.resize(n_lines, Line::zeroed());
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

    /// Runs `ids`, which are in the vocabulary and fit the context window, after what the cache holds.
    ///
    /// `team` is called once for each pass of at most [`MAX_TOKENS`] ids, and must have every member `run` it.
    pub fn forward(
        &self,
        scratch: &mut Scratch,
        cache: &mut Cache,
        ids: &[u32],
        rows: Rows,
        with_attentions: bool,
        mut team: impl FnMut(&Pass),
    ) -> Output {
        let (v, n_head) = (self.dims.vocab_size, self.dims.n_head);
        let n_all = cache.n_tokens() + ids.len();
        let mut output = Output::default();
        if with_attentions {
            output.attentions = vec![vec![0.0; n_head * ids.len() * n_all]; self.dims.n_layer];
        }
        let barrier = Barrier::default();
        for (first, ids_now) in ids.chunks(MAX_TOKENS).enumerate().map(|(i, ids)| (i * MAX_TOKENS, ids)) {
            let is_last = first + ids_now.len() == ids.len();
            let rows_now = if rows == Rows::Last && !is_last { Rows::None } else { rows };
            let n_rows = match rows_now {
                Rows::None => 0,
                Rows::Last => 1,
                Rows::All => ids_now.len(),
            };
            let n_now = ids_now.len();
            let n_keys = cache.n_tokens() + n_now;
            let mut logits = vec![[0.0; 4]; n_rows * v.div_ceil(GROUP)];
            let n_weights = if with_attentions { self.dims.n_layer * n_head * n_now * n_keys } else { 0 };
            let mut attentions = vec![0.0; n_weights];
            team(&Pass::new(self, scratch, cache, ids_now, rows_now, &mut logits, &mut attentions, &barrier));
            cache.advance(n_now);
            for row in logits.chunks_exact(v.div_ceil(GROUP)) {
                output.logits.extend_from_slice(&row.as_flattened()[..v]);
            }
            // [H, T, S] of this pass into [H, T, S] of all
            for (block, into) in attentions.chunks_exact(n_head * n_now * n_keys).zip(&mut output.attentions) {
                for (row, weights) in block.chunks_exact(n_keys).enumerate() {
                    let (head, t) = (row / n_now, first + row % n_now);
                    into[(head * ids.len() + t) * n_all..][..n_keys].copy_from_slice(weights);
                }
            }
        }
        output
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
        self.forward(scratch, cache, ids, rows, with_attentions, |pass| pass.run::<Alone>(0))
    }
}

/// Nobody to wait for.
enum Alone {}

impl Futex for Alone {
    fn sleep(_: &core::sync::atomic::AtomicU32, _: u32) {}
    fn wake(_: &core::sync::atomic::AtomicU32) {}
}
