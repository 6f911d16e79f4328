//! Several threads on one pass: all run the same function over the same memory, and wait for one another at a barrier
//! before one reads what another has written.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::op::Op;

/// Member `member`'s part of `0..n`, if `n_members` share it out evenly.
pub fn share(n: usize, member: usize, n_members: usize) -> Range<usize> {
    n * member / n_members..n * (member + 1) / n_members
}

/// A slice of which each member writes its own part.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    cells: &'a [UnsafeCell<T>],
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: the callers of `get` and `get_mut` promise that nobody else writes the same part at the same time
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares a slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the exclusive borrow lasts as long as `Self`
        let cells = unsafe { &*(core::ptr::from_mut(slice) as *const [UnsafeCell<T>]) };
        Self { cells, marker: PhantomData }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// A part, to read.
    ///
    /// # Safety
    /// Until the next barrier, no member writes this part.
    pub unsafe fn get(&self, range: Range<usize>) -> &'a [T] {
        let cells = &self.cells[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`; nobody writes, as the caller promises
        unsafe { &*(core::ptr::from_ref(cells) as *const [T]) }
    }

    /// A part, to write.
    ///
    /// # Safety
    /// Until the next barrier, no other member reads or writes this part, and this member only through this one call.
    #[allow(clippy::mut_from_ref)] // members share the slice and write different parts of it
    pub unsafe fn get_mut(&self, range: Range<usize>) -> &'a mut [T] {
        let cells = &self.cells[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`; nobody else uses this part, as the caller promises
        unsafe { core::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}

/// What a team needs of the platform that it runs on: how threads sleep and wake, and whether they should pause.
pub trait Platform {
    /// Sleeps until woken; returns at once if `word` is not `expected`.
    fn sleep(word: &AtomicU32, expected: u32);
    /// Wakes all threads that sleep on `word`.
    fn wake(word: &AtomicU32);
    /// Member 0 calls it when the whole team is done with an op, so that a profile can take the time.
    fn done(_: Op) {}
    /// Member 0 calls it after each stage: whether its thread has other work to do first.
    fn should_pause() -> bool {
        false
    }
}

/// The place where the members of a team wait for one another.
#[derive(Default)]
pub struct Barrier {
    arrived: AtomicU32,
    generation: AtomicU32,
    sleeping: AtomicU32,
}

/// How often a member looks before it sleeps: some tens of microseconds. Within a token the other members arrive
/// sooner.
const SPINS: u32 = 20_000;

impl Barrier {
    /// Waits until all `n_members` are here.
    pub fn wait<F: Platform>(&self, n_members: usize) {
        if n_members == 1 {
            return;
        }
        let generation = self.generation.load(SeqCst);
        if self.arrived.fetch_add(1, SeqCst) + 1 == n_members as u32 {
            self.arrived.store(0, SeqCst);
            self.generation.store(generation.wrapping_add(1), SeqCst);
            if self.sleeping.load(SeqCst) > 0 {
                F::wake(&self.generation);
            }
            return;
        }
        wait_while::<F>(&self.generation, generation, &self.sleeping);
    }
}

/// Returns once `word` is no longer `value`: looks again and again for a while, and then sleeps. `sleeping` counts the
/// threads that sleep.
pub fn wait_while<F: Platform>(word: &AtomicU32, value: u32, sleeping: &AtomicU32) {
    for _ in 0..SPINS {
        if word.load(SeqCst) != value {
            return;
        }
        core::hint::spin_loop();
    }
    sleeping.fetch_add(1, SeqCst);
    while word.load(SeqCst) == value {
        F::sleep(word, value);
    }
    sleeping.fetch_sub(1, SeqCst);
}
