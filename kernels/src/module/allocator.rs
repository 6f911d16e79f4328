//! The module's allocator: dlmalloc, with everything aligned to cache lines.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

use super::leader_only::LeaderOnly;

/// Everything begins at a cache line, because a vector that lies across two is read at half the speed.
fn line_aligned(block: Layout) -> usize {
    block.align().max(64)
}

struct Allocator(LeaderOnly<dlmalloc::Dlmalloc>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(LeaderOnly(UnsafeCell::new(dlmalloc::Dlmalloc::new())));

// SAFETY: dlmalloc keeps the contract of `GlobalAlloc`, and every call of it holds the lock below
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        // SAFETY: the lock is held, and the caller keeps `GlobalAlloc`'s contract
        lock::hold(|| unsafe { (*self.0.0.get()).malloc(block.size(), line_aligned(block)) })
    }
    unsafe fn alloc_zeroed(&self, block: Layout) -> *mut u8 {
        let (n_before, at) = lock::hold(|| {
            let n_pages = core::arch::wasm32::memory_size(0);
            // SAFETY: as above
            (n_pages.saturating_mul(1 << 16), unsafe { (*self.0.0.get()).malloc(block.size(), line_aligned(block)) })
        });
        if !at.is_null() {
            // memory that the module has just got from the browser is zero already, so that a model's image is written
            // only once
            let n_stale = n_before.saturating_sub(at as usize).min(block.size());
            // SAFETY: at least so many bytes have been allocated there
            unsafe { at.write_bytes(0, n_stale) };
        }
        at
    }
    unsafe fn dealloc(&self, at: *mut u8, block: Layout) {
        // SAFETY: as above
        lock::hold(|| unsafe { (*self.0.0.get()).free(at, block.size(), line_aligned(block)) })
    }
    unsafe fn realloc(&self, at: *mut u8, block: Layout, n_bytes: usize) -> *mut u8 {
        // SAFETY: as above
        lock::hold(|| unsafe { (*self.0.0.get()).realloc(at, block.size(), line_aligned(block), n_bytes) })
    }
}

/// The allocator's lock. It is held for an instant only, and it is rarely contended: within a pass, a member allocates
/// only to grow a buffer of its own.
mod lock {
    use core::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

    static LOCKED: AtomicBool = AtomicBool::new(false);

    pub fn hold<T>(f: impl FnOnce() -> T) -> T {
        while LOCKED.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {}
        let result = f();
        LOCKED.store(false, Release);
        result
    }
}
