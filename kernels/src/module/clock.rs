//! When the leader is to pause.

use core::cell::UnsafeCell;

use super::LeaderOnly;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// `performance.now()`, safe as it takes and touches nothing
    pub safe fn now() -> f64;
}

static DEADLINE_MS: LeaderOnly<f64> = LeaderOnly(UnsafeCell::new(0.0));

/// The pass may run for so long from now on.
pub fn set_deadline(budget_ms: f64) {
    // SAFETY: the leader alone calls this and what follows
    unsafe { *DEADLINE_MS.0.get() = now() + budget_ms }
}

/// Whether that time is up.
pub fn is_late() -> bool {
    // SAFETY: as above
    now() >= unsafe { *DEADLINE_MS.0.get() }
}
