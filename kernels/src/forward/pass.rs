//! How a team gets through the stages of one pass, and where it may pause.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::rows::Rows;
use super::stages::{Row, Stages, Text};
use crate::cache::Cache;
use crate::model::PackedModel;
use crate::scratch::{MemberScratch, Scratch};
use crate::team::{Barrier, Platform, Shared};

/// A pass of at most [`crate::MAX_TOKENS`] tokens under way. Every member of the team has the same one.
pub struct Pass<'a> {
    stages: Stages<'a>,
    members: Shared<'a, MemberScratch>,
    barrier: &'a Barrier,
    /// The stage that a run begins with.
    from: usize,
    /// The stage after which the leader wants to pause.
    pause_after: AtomicUsize,
}

/// What a pass computes of one text.
pub struct Part<'a> {
    /// The text's keys and values so far.
    pub cache: &'a mut Cache,
    /// Its tokens in this pass, checked against vocabulary and context window.
    pub ids: &'a [u32],
    /// Which of their logits it computes.
    pub rows: Rows,
}

/// Where a pass leaves what it computes.
pub struct Results<'a> {
    /// [rows of all parts, V'/4]
    pub logits: &'a mut [[f32; 4]],
    /// [n_layer, H, T, S], for a pass of one text, or empty
    pub attentions: &'a mut [f32],
}

/// No stage has this number.
const NEVER: usize = usize::MAX;

impl<'a> Pass<'a> {
    /// Prepares a pass of at most [`crate::MAX_TOKENS`] ids in all, or the rest of one, from stage `from` on.
    pub fn new(
        model: &'a PackedModel,
        scratch: &'a mut Scratch,
        parts: impl Iterator<Item = Part<'a>>,
        results: Results<'a>,
        barrier: &'a Barrier,
        from: usize,
    ) -> Self {
        let (mut texts, mut rows, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for Part { cache, ids, rows: of_part } in parts {
            let (first, n_past) = (rows.len(), cache.n_tokens());
            cache.reserve(ids.len());
            rows.extend(ids.iter().zip(n_past..).map(|(&id, position)| Row { id, position }));
            let Range { start, end } = of_part.tokens(ids.len());
            wanted.extend(first + start..first + end);
            texts.push(Text { rows: first..rows.len(), n_past, cache: Shared::new(cache.heads_mut()) });
        }
        Self {
            stages: Stages {
                model,
                all: (0..rows.len()).collect(),
                rows,
                wanted,
                texts,
                n_members: scratch.members.len(),
                x: Shared::new(&mut scratch.x),
                qkv: Shared::new(&mut scratch.qkv),
                heads: Shared::new(&mut scratch.heads),
                hidden: Shared::new(&mut scratch.hidden),
                logits: Shared::new(results.logits),
                attentions: Shared::new(results.attentions),
            },
            members: Shared::new(&mut scratch.members),
            barrier,
            from,
            pause_after: AtomicUsize::new(NEVER),
        }
    }

    /// How many members the team has.
    pub fn n_members(&self) -> usize {
        self.stages.n_members
    }

    /// The stage to go on with after a run that paused; `None` after a run that did not.
    pub fn paused_before(&self) -> Option<usize> {
        let stage = self.pause_after.load(SeqCst);
        (stage != NEVER).then(|| stage + 1)
    }

    /// Does the work of one member; returns when the whole pass is done, or when the leader wants to pause. Every
    /// member must call it once.
    pub fn run<F: Platform>(&self, member: usize) {
        // SAFETY: each member takes its own scratch, and `run` is called once for each
        let [own] = (unsafe { self.members.get_mut(member..member + 1) }) else { return };
        let n_stages = self.stages.len();
        for stage in self.from..n_stages {
            let op = self.stages.run(member, own, stage);
            let is_last = stage + 1 == n_stages;
            if member == 0 && !is_last && F::should_pause() {
                // not a flag but the number of the stage: a slow member may read it only after the next one has begun
                self.pause_after.store(stage, SeqCst);
            }
            self.barrier.wait::<F>(self.stages.n_members);
            if member == 0 {
                F::done(op);
            }
            if self.pause_after.load(SeqCst) == stage {
                return;
            }
        }
    }
}
