//! A team of several threads, for modules with shared memory: a leader, and members that each spend their life in
//! [`member`].

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicPtr, AtomicU32};

use super::state::state;
use super::{clock, profile};
use crate::forward::Pass;
use crate::op::Op;
use crate::team::{Platform, wait_while};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// `Atomics.wait`
    fn sleep(word: *const u32, expected: u32);
    /// `Atomics.notify`
    fn wake(word: *const u32);
}

/// The browser as a platform for several threads.
enum Browser {}

impl Platform for Browser {
    fn sleep(word: &AtomicU32, expected: u32) {
        // SAFETY: the word lies in the shared memory that the import works on
        unsafe { sleep(word.as_ptr(), expected) }
    }
    fn wake(word: &AtomicU32) {
        // SAFETY: as above
        unsafe { wake(word.as_ptr()) }
    }
    fn done(op: Op) {
        profile::done(op);
    }
    fn should_pause() -> bool {
        clock::is_late()
    }
}

/// Counts the passes. A member that sees it change finds its work in [`PASS`].
static EPOCH: AtomicU32 = AtomicU32::new(0);
/// Members that sleep until the next pass.
static SLEEPING: AtomicU32 = AtomicU32::new(0);
/// The current pass.
static PASS: AtomicPtr<Pass> = AtomicPtr::new(core::ptr::null_mut());
/// Members of the team in the current pass.
static N_MEMBERS: AtomicU32 = AtomicU32::new(1);
/// Members that are done with the current pass and will not look at it again. The leader is not counted.
static N_DONE: AtomicU32 = AtomicU32::new(0);

/// Has every member run the pass. The leader, which calls this, is number 0.
pub fn run(pass: &Pass) {
    profile::begin();
    let n_members = pass.n_members() as u32;
    N_MEMBERS.store(n_members, SeqCst);
    N_DONE.store(0, SeqCst);
    PASS.store(core::ptr::from_ref(pass).cast_mut().cast(), SeqCst);
    EPOCH.fetch_add(1, SeqCst);
    if n_members > 1 && SLEEPING.load(SeqCst) > 0 {
        Browser::wake(&EPOCH);
    }
    pass.run::<Browser>(0);
    while N_DONE.load(SeqCst) < n_members - 1 {
        core::hint::spin_loop();
    }
}

/// The life of member number `index`, from 1 on; it never returns. `epoch`: what the function [`epoch`] returned when
/// the member was made.
#[unsafe(no_mangle)]
extern "C" fn member(index: usize, epoch: u32) {
    let mut seen = epoch;
    loop {
        wait_while::<Browser>(&EPOCH, seen, &SLEEPING);
        seen = EPOCH.load(SeqCst);
        if index < N_MEMBERS.load(SeqCst) as usize {
            // SAFETY: the leader keeps the pass until every member of the team is done with it
            unsafe { &*PASS.load(SeqCst) }.run::<Browser>(index);
            N_DONE.fetch_add(1, SeqCst);
        }
    }
}

/// How many passes there have been.
#[unsafe(no_mangle)]
extern "C" fn epoch() -> u32 {
    EPOCH.load(SeqCst)
}

/// Sets the size of the team, from the next pass on.
#[unsafe(no_mangle)]
extern "C" fn set_members(n_members: usize) {
    let state = state();
    state.scratch = state.model.as_ref().map(|m| m.scratch(n_members));
}

/// Bytes of a member's stack. A pass needs some kilobytes.
const STACK_BYTES: usize = 128 << 10;

/// Allocates the stack of a new member, which lasts as long as the module. → its top
#[unsafe(no_mangle)]
extern "C" fn member_stack() -> *mut u8 {
    let stack = Box::leak(vec![0_u64; STACK_BYTES / 8].into_boxed_slice());
    // SAFETY: one past the end of the allocation; a multiple of 16 as the stack pointer must be
    let top = unsafe { stack.as_mut_ptr().cast::<u8>().add(STACK_BYTES) };
    top.map_addr(|a| a & !15)
}
