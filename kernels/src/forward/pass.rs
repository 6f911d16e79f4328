//! How a team gets through the stages of one pass, and where it may pause.

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::rows::Rows;
use super::stages::Stages;
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

/// No stage has this number.
const NEVER: usize = usize::MAX;

impl<'a> Pass<'a> {
    /// Prepares a pass of at most [`crate::MAX_TOKENS`] ids, or the rest of one, from stage `from` on. The caller has
    /// checked the ids against vocabulary and context window. logits: [rows, V'/4]; attentions: [n_layer, H, T, S] or
    /// empty
    #[allow(clippy::too_many_arguments)] // no two of them belong together
    pub fn new(
        model: &'a PackedModel,
        scratch: &'a mut Scratch,
        cache: &'a mut Cache,
        ids: &'a [u32],
        rows: Rows,
        logits: &'a mut [[f32; 4]],
        attentions: &'a mut [f32],
        barrier: &'a Barrier,
        from: usize,
    ) -> Self {
        let n_past = cache.n_tokens();
        cache.reserve(ids.len());
        Self {
            stages: Stages {
                model,
                ids,
                n_past,
                rows,
                n_members: scratch.members.len(),
                cache: Shared::new(cache.heads_mut()),
                x: Shared::new(&mut scratch.x),
                qkv: Shared::new(&mut scratch.qkv),
                heads: Shared::new(&mut scratch.heads),
                hidden: Shared::new(&mut scratch.hidden),
                logits: Shared::new(logits),
                attentions: Shared::new(attentions),
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
