//! A cell for what only one thread uses.

use core::cell::UnsafeCell;

/// A cell that only the leader opens.
pub struct LeaderOnly<T>(pub UnsafeCell<T>);

// SAFETY: only the leader's thread uses it, or a thread that holds a lock, as whoever opens it promises
unsafe impl<T> Sync for LeaderOnly<T> {}
