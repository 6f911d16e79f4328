//! What the module holds from one call to the next.

use alloc::vec::Vec;
use core::cell::UnsafeCell;

use super::leader_only::LeaderOnly;
use crate::cache::Cache;
use crate::forward::Forward;
use crate::model::PackedModel;
use crate::scratch::Scratch;

/// What the module holds.
#[derive(Default)]
pub struct State {
    pub model: Option<PackedModel>,
    pub scratch: Option<Scratch>,
    /// By handle; `None` where one has been freed.
    pub caches: Vec<Option<Cache>>,
    /// What the next forward pass is of.
    pub plan: Vec<u32>,
    /// The current forward pass, or the last one if none is under way, and the handles of its caches.
    pub forward: Option<(Vec<usize>, Forward)>,
}

static STATE: LeaderOnly<State> = LeaderOnly(UnsafeCell::new(State {
    model: None,
    scratch: None,
    caches: Vec::new(),
    plan: Vec::new(),
    forward: None,
}));

/// The state, for an export.
pub fn state() -> &'static mut State {
    // SAFETY: exports are called by the leader alone, one after the other, and none calls another
    unsafe { &mut *STATE.0.get() }
}
