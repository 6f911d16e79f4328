//! A forward pass of any number of tokens, of one text or several: ids in, logits out.
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
use pass::{Part, Results};
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

/// One text's share of a [`Forward`], and how much of it is done.
struct Share {
    ids: Vec<u32>,
    rows: Rows,
    /// How many of the ids are done: those of the passes before the current one.
    n_done: usize,
}

impl Share {
    /// The ids of a pass that has room for so many, and which logits it computes.
    fn part(&self, room: usize) -> (Range<usize>, Rows) {
        let end = self.ids.len().min(self.n_done + room);
        let is_last = end == self.ids.len();
        (self.n_done..end, if self.rows == Rows::Last && !is_last { Rows::None } else { self.rows })
    }
}

/// A forward pass of any number of ids of one text or several, and how much of it is done.
#[derive(Default)]
pub struct Forward {
    texts: Vec<Share>,
    with_attentions: bool,
    /// The stage that the current pass goes on with.
    stage: usize,
    /// Of the current pass: [rows, V'/4]
    logits: Vec<[f32; 4]>,
    /// Of the current pass: [n_layer, H, T, S], or empty
    attentions: Vec<f32>,
    /// The results, one for each text, whole once [`PackedModel::forward`] has returned `true`.
    pub outputs: Vec<Output>,
}

impl Forward {
    /// A forward pass of ids that are in the vocabulary and fit the context window behind what the cache holds.
    pub fn new(ids: Vec<u32>, rows: Rows, with_attentions: bool) -> Self {
        Self::batch([(ids, rows)]).with_attentions(with_attentions)
    }

    /// Whether it keeps attention weights, which is possible for a single text.
    pub fn with_attentions(self, with_attentions: bool) -> Self {
        Self { with_attentions, ..self }
    }

    /// A forward pass of several texts, each with ids of its own. It gives the bits that each alone would give.
    pub fn batch(texts: impl IntoIterator<Item = (Vec<u32>, Rows)>) -> Self {
        let texts: Vec<_> = texts.into_iter().map(|(ids, rows)| Share { ids, rows, n_done: 0 }).collect();
        Self { outputs: texts.iter().map(|_| Output::default()).collect(), texts, ..Self::default() }
    }

    /// The ids of the current pass and which logits it computes, of each text: as many as there is room for, in order.
    fn parts(&self) -> Vec<(Range<usize>, Rows)> {
        let mut room = MAX_TOKENS;
        let part = |text: &Share| {
            let (ids, rows) = text.part(room);
            room -= ids.len();
            (ids, rows)
        };
        self.texts.iter().map(part).collect()
    }

    fn begin_pass(&mut self, dims: &Dims, caches: &[Cache]) {
        let parts = self.parts();
        let n_rows: usize = parts.iter().map(|(ids, rows)| rows.tokens(ids.len()).len()).sum();
        self.logits = vec![[0.0; 4]; n_rows * dims.vocab_size.div_ceil(GROUP)];
        if let (true, [text], [(ids, _)], [cache]) = (self.with_attentions, &self.texts[..], &parts[..], caches) {
            let n_keys = cache.n_tokens() + ids.len();
            self.attentions = vec![0.0; dims.n_layer * dims.n_head * ids.len() * n_keys];
            let n_all = cache.n_tokens() - text.n_done + text.ids.len();
            // the first pass makes room for all of them
            let room = dims.n_head * text.ids.len() * n_all;
            self.outputs[0].attentions.resize_with(dims.n_layer, || vec![0.0; room]);
        }
    }

    fn end_pass(&mut self, dims: &Dims, caches: &mut [Cache]) {
        let mut logits = self.logits.chunks_exact(dims.vocab_size.div_ceil(GROUP));
        let parts = self.parts();
        for (((ids, rows), cache), output) in parts.iter().zip(&mut *caches).zip(&mut self.outputs) {
            cache.advance(ids.len());
            for row in logits.by_ref().take(rows.tokens(ids.len()).len()) {
                output.logits.extend_from_slice(&row.as_flattened()[..dims.vocab_size]);
            }
        }
        if let (true, [text], [(ids, _)], [cache]) = (self.with_attentions, &self.texts[..], &parts[..], caches) {
            // [H, T, S] of this pass go into [H, T, S] of all passes
            let (n_keys, n_new) = (cache.n_tokens(), text.ids.len());
            let n_all = n_keys - ids.end + n_new;
            let blocks = self.attentions.chunks_exact(dims.n_head * ids.len() * n_keys);
            for (block, into) in blocks.zip(&mut self.outputs[0].attentions) {
                for (row, weights) in block.chunks_exact(n_keys).enumerate() {
                    let (head, t) = (row / ids.len(), ids.start + row % ids.len());
                    into[(head * n_new + t) * n_all..][..n_keys].copy_from_slice(weights);
                }
            }
        }
        for (text, (ids, _)) in self.texts.iter_mut().zip(parts) {
            text.n_done = ids.end;
        }
        self.stage = 0;
    }
}

impl PackedModel {
    /// Goes on with a forward pass until it is done or the team pauses. → whether it is done
    ///
    /// `caches` has one for each text. Every call for one [`Forward`] must be given the same ones, and nothing else may
    /// change them between the calls. `team` is called once for each pass and each pause; it must have every member
    /// `run` the pass that it is given.
    pub fn forward(
        &self,
        forward: &mut Forward,
        scratch: &mut Scratch,
        caches: &mut [Cache],
        mut team: impl FnMut(&Pass),
    ) -> bool {
        debug_assert_eq!(forward.texts.len(), caches.len());
        let barrier = Barrier::default();
        while forward.texts.iter().any(|text| text.n_done < text.ids.len()) {
            if forward.stage == 0 {
                forward.begin_pass(self.dims(), caches);
            }
            let parts = forward.parts();
            let texts = forward.texts.iter().zip(&parts).zip(&mut *caches).filter(|((_, (ids, _)), _)| !ids.is_empty());
            let pass = Pass::new(
                self,
                scratch,
                texts.map(|((text, (ids, rows)), cache)| Part { cache, ids: &text.ids[ids.clone()], rows: *rows }),
                Results { logits: &mut forward.logits, attentions: &mut forward.attentions },
                &barrier,
                forward.stage,
            );
            team(&pass);
            if let Some(stage) = pass.paused_before() {
                forward.stage = stage;
                return false;
            }
            forward.end_pass(self.dims(), caches);
        }
        true
    }

    /// Bytes that a forward pass allocates for a text: pages of its cache, and twice its logits and attention weights,
    /// which are copied from the passes into the output.
    pub fn pass_bytes(&self, cache: &Cache, n_ids: usize, rows: Rows, with_attentions: bool) -> usize {
        let dims = self.dims();
        let n_rows = rows.tokens(n_ids).len();
        let n_keys = cache.n_tokens() + n_ids;
        let n_weights = if with_attentions { dims.n_layer * dims.n_head * n_ids * n_keys } else { 0 };
        cache.reserve_bytes(n_ids) + 8 * n_rows * dims.vocab_size.next_multiple_of(GROUP) + 8 * n_weights
    }

    /// [`Self::forward`] of one text on this thread alone, without pauses.
    pub fn forward_alone(
        &self,
        scratch: &mut Scratch,
        cache: &mut Cache,
        ids: &[u32],
        rows: Rows,
        with_attentions: bool,
    ) -> Output {
        let mut forward = Forward::new(ids.to_vec(), rows, with_attentions);
        self.run_alone(&mut forward, scratch, core::slice::from_mut(cache));
        forward.outputs.swap_remove(0)
    }

    /// [`Self::forward`] on this thread alone, without pauses.
    pub fn run_alone(&self, forward: &mut Forward, scratch: &mut Scratch, caches: &mut [Cache]) {
        debug_assert_eq!(scratch.n_members(), 1);
        self.forward(forward, scratch, caches, |pass| pass.run::<Alone>(0));
    }
}

/// A platform for one thread, which waits for nobody.
enum Alone {}

impl Platform for Alone {
    fn sleep(_: &AtomicU32, _: u32) {}
    fn wake(_: &AtomicU32) {}
}
