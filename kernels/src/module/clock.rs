//! The time at which a forward pass should pause.

use core::cell::UnsafeCell;

use super::leader_only::LeaderOnly;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// `performance.now()`, ms. It is safe to call, because it takes no pointer.
    pub safe fn now() -> f64;
}

static DEADLINE_MS: LeaderOnly<f64> = LeaderOnly(UnsafeCell::new(0.0));

/// From now on the pass may run for `budget_ms` milliseconds.
pub fn set_deadline(budget_ms: f64) {
    // SAFETY: only the leader calls this function and the next one
    unsafe { *DEADLINE_MS.0.get() = now() + budget_ms }
}

/// Whether that time is up.
pub fn is_late() -> bool {
    // SAFETY: only the leader calls this function
    now() >= unsafe { *DEADLINE_MS.0.get() }
}
