//! Several threads on one token: all run the same function over the same memory and meet at a barrier wherever one needs
//! what another has written.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::forward::Op;

/// The part of `0..n` that member `member` of `n_members` does.
pub fn share(n: usize, member: usize, n_members: usize) -> Range<usize> {
    n * member / n_members..n * (member + 1) / n_members
}

/// A slice of which each member writes its own part.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    cells: &'a [UnsafeCell<T>],
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: whoever reads or writes promises, at `get` and `get_mut`, that nobody else writes the same part meanwhile
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

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// # Safety
    /// Until the next barrier, no member writes this part.
    pub unsafe fn get(&self, range: Range<usize>) -> &'a [T] {
        let cells = &self.cells[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`; nobody writes, as the caller promises
        unsafe { &*(core::ptr::from_ref(cells) as *const [T]) }
    }

    /// # Safety
    /// Until the next barrier, no other member reads or writes this part, nor this one through another call.
    #[allow(clippy::mut_from_ref)] // that is its purpose
    pub unsafe fn get_mut(&self, range: Range<usize>) -> &'a mut [T] {
        let cells = &self.cells[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`; nobody else has it, as the caller promises
        unsafe { core::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}

/// What a team asks of its platform: how threads sleep and wake, and whether they are to pause.
pub trait Platform {
    /// Sleeps until woken, unless `word` is not `expected` any more.
    fn sleep(word: &AtomicU32, expected: u32);
    /// Wakes all that sleep on `word`.
    fn wake(word: &AtomicU32);
    /// Hears from member 0 that the whole team is done with an op, for those who measure; nothing by default.
    fn done(_: Op) {}
    /// Asked by member 0 after each stage: whether the thread is wanted for something else meanwhile.
    fn should_pause() -> bool {
        false
    }
}

/// Where the members of a team wait for one another.
#[derive(Default)]
pub struct Barrier {
    arrived: AtomicU32,
    generation: AtomicU32,
    sleeping: AtomicU32,
}

/// How often a member looks before it sleeps: some tens of microseconds, longer than the others take within a token.
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

/// Looks for a while, then sleeps, until `word` is not `value` any more.
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
