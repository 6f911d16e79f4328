//! The kernels as a WebAssembly module of their own: one model in one memory, called by www/src/kernels.ts.
//!
//! Only the leader calls these functions, but for [`member`], in which each further thread spends its life.

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout as Block};
use core::cell::UnsafeCell;

use crate::cache::Cache;
use crate::format::Dtype;
use crate::forward::{Pass, Rows, Scratch};
use crate::layout::{Activation, Dims};
use crate::model::{Forward, Model, Output};

/// What the module holds.
#[derive(Default)]
struct State {
    model: Option<Model>,
    scratch: Option<Scratch>,
    /// By handle; `None` where one has been freed.
    caches: Vec<Option<Cache>>,
    ids: Vec<u32>,
    /// The forward pass under way, or the last one, and the handle of its cache.
    forward: Option<(usize, Forward)>,
}

/// A cell that only the leader opens.
struct LeaderOnly<T>(UnsafeCell<T>);

// SAFETY: see the type: one thread uses it
unsafe impl<T> Sync for LeaderOnly<T> {}

static STATE: LeaderOnly<State> = LeaderOnly(UnsafeCell::new(State {
    model: None,
    scratch: None,
    caches: Vec::new(),
    ids: Vec::new(),
    forward: None,
}));

fn state() -> &'static mut State {
    // SAFETY: exports are called by the leader alone, one after the other, and none calls another
    unsafe { &mut *STATE.0.get() }
}

/// Everything begins at a cache line: vectors that lie across two are read at half the speed.
fn line_aligned(block: Block) -> usize {
    block.align().max(64)
}

struct Allocator(LeaderOnly<dlmalloc::Dlmalloc>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(LeaderOnly(UnsafeCell::new(dlmalloc::Dlmalloc::new())));

// SAFETY: dlmalloc keeps the contract; the members of a team allocate nothing that outlasts or crosses the leader's own
// calls without the lock below
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        // SAFETY: the lock is held, and the caller keeps `GlobalAlloc`'s contract
        lock::hold(|| unsafe { (*self.0.0.get()).malloc(block.size(), line_aligned(block)) })
    }
    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        // SAFETY: as above
        lock::hold(|| unsafe { (*self.0.0.get()).free(at, block.size(), line_aligned(block)) })
    }
    unsafe fn realloc(&self, at: *mut u8, block: Block, n_bytes: usize) -> *mut u8 {
        // SAFETY: as above
        lock::hold(|| unsafe { (*self.0.0.get()).realloc(at, block.size(), line_aligned(block), n_bytes) })
    }
}

/// The allocator's lock: taken for an instant, and only members that grow a buffer of their own ever meet at it.
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Makes room for a model. flags: 1 = scale_attn_weights, 2 = scale_attn_by_inverse_layer_idx, 4 = tie_word_embeddings.
/// → bytes of its image, 0 if there is not so much memory
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // numbers are all that can cross
extern "C" fn create(
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: usize,
    activation: u32,
    layer_norm_epsilon: f32,
    flags: u32,
    dtype: u32,
) -> usize {
    use Activation::{Gelu, GeluNew, Relu, Silu, Tanh};
    let dims = Dims {
        vocab_size,
        n_positions,
        n_embd,
        n_layer,
        n_head,
        n_inner,
        activation: [GeluNew, Gelu, Relu, Silu, Tanh][activation as usize],
        layer_norm_epsilon,
        scale_attn_weights: flags & 1 != 0,
        scale_attn_by_inverse_layer_idx: flags & 2 != 0,
        tie_word_embeddings: flags & 4 != 0,
    };
    *state() = State::default();
    let Some(model) = Model::new(dims, Dtype::ALL[dtype as usize]) else { return 0 };
    let n_bytes = model.layout().n_bytes;
    *state() =
        State { scratch: Some(model.scratch(1)), model: Some(model), ids: vec![0; n_positions], ..State::default() };
    n_bytes
}

/// Where the image begins.
#[unsafe(no_mangle)]
extern "C" fn image() -> *mut u8 {
    state().model.as_mut().map_or(core::ptr::null_mut(), |m| m.image_mut().as_mut_ptr())
}

/// Where the ids of a forward pass are written to, at most `n_positions` of them.
#[unsafe(no_mangle)]
extern "C" fn ids() -> *mut u32 {
    state().ids.as_mut_ptr()
}

/// A new cache. → its handle
#[unsafe(no_mangle)]
extern "C" fn cache_new() -> usize {
    let cache = state().model.as_ref().map(Model::new_cache);
    keep(cache)
}

/// A copy of a cache. → its handle, or -1 if there is not so much memory
#[unsafe(no_mangle)]
extern "C" fn cache_clone(handle: usize) -> isize {
    let Some(cache) = state().caches[handle].as_ref() else { return -1 };
    if !can_allocate(cache.n_bytes()) {
        return -1;
    }
    keep(Some(cache.clone())) as isize
}

fn keep(cache: Option<Cache>) -> usize {
    let caches = &mut state().caches;
    let free = caches.iter().position(Option::is_none).unwrap_or_else(|| {
        caches.push(None);
        caches.len() - 1
    });
    caches[free] = cache;
    free
}

/// Forgets all but the first `n_tokens`.
#[unsafe(no_mangle)]
extern "C" fn cache_truncate(handle: usize, n_tokens: usize) {
    if let Some(cache) = &mut state().caches[handle] {
        cache.truncate(n_tokens);
    }
}

/// Frees a cache.
#[unsafe(no_mangle)]
extern "C" fn cache_free(handle: usize) {
    state().caches[handle] = None;
}

/// Whether so many bytes can be had, in parts.
fn can_allocate(n_bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(n_bytes).is_ok()
}

/// Begins to run the first `n_ids` of [`ids`] after what the cache holds; [`advance`] does it. rows: 0 = none, 1 = last,
/// 2 = all. → 0, or 1 if there is not enough memory
#[unsafe(no_mangle)]
extern "C" fn forward(handle: usize, n_ids: usize, rows: u32, with_attentions: u32) -> u32 {
    let State { model, caches, ids, forward, .. } = state();
    let (Some(model), Some(cache)) = (model, &caches[handle]) else { return 1 };
    *forward = None;
    let rows = [Rows::None, Rows::Last, Rows::All][rows as usize];
    if !can_allocate(model.pass_bytes(cache, n_ids, rows, with_attentions != 0)) {
        return 1;
    }
    *forward = Some((handle, Forward::new(ids[..n_ids].to_vec(), rows, with_attentions != 0)));
    0
}

/// Goes on with the forward pass for about so long. → 1 once it is done, else 0
#[unsafe(no_mangle)]
extern "C" fn advance(budget_ms: f64) -> u32 {
    let State { model, scratch, caches, forward, .. } = state();
    let (Some(model), Some(scratch), Some((handle, forward))) = (model, scratch, forward) else { return 1 };
    let Some(cache) = &mut caches[*handle] else { return 1 };
    clock::set_deadline(budget_ms);
    model.forward(forward, scratch, cache, team::run).into()
}

fn output() -> Option<&'static Output> {
    state().forward.as_ref().map(|(_, forward)| &forward.output)
}

/// Where the logits of the last pass lie.
#[unsafe(no_mangle)]
extern "C" fn logits() -> *const f32 {
    output().map_or(core::ptr::null(), |o| o.logits.as_ptr())
}

/// How many logits the last pass gave: rows · V.
#[unsafe(no_mangle)]
extern "C" fn n_logits() -> usize {
    output().map_or(0, |o| o.logits.len())
}

/// Where the attention weights of a block lie.
#[unsafe(no_mangle)]
extern "C" fn attentions(layer: usize) -> *const f32 {
    output().and_then(|o| o.attentions.get(layer)).map_or(core::ptr::null(), Vec::as_ptr)
}

/// How many attention weights a block of the last pass has: H · T · S, or 0.
#[unsafe(no_mangle)]
extern "C" fn n_attentions(layer: usize) -> usize {
    output().and_then(|o| o.attentions.get(layer)).map_or(0, Vec::len)
}

/// Reads the whole image once and does nothing else: the least that a token can take. → something, lest it be left out
#[unsafe(no_mangle)]
extern "C" fn sweep() -> i32 {
    state().model.as_ref().map_or(0, |m| crate::simd::sweep(bytemuck::cast_slice(m.image())))
}

/// Fills the image with weights of no model, to measure with.
#[unsafe(no_mangle)]
extern "C" fn fill(seed: u32) {
    if let Some(model) = &mut state().model {
        crate::noise::fill(model, seed.into());
    }
}

/// When the leader is to pause.
mod clock {
    use core::cell::UnsafeCell;

    use super::LeaderOnly;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        /// `performance.now()`, safe as it takes and touches nothing
        pub safe fn now() -> f64;
    }

    static DEADLINE_MS: LeaderOnly<f64> = LeaderOnly(UnsafeCell::new(0.0));

    pub fn set_deadline(budget_ms: f64) {
        // SAFETY: the leader alone calls this and what follows
        unsafe { *DEADLINE_MS.0.get() = now() + budget_ms }
    }

    pub fn is_late() -> bool {
        // SAFETY: as above
        now() >= unsafe { *DEADLINE_MS.0.get() }
    }
}

/// Where the leader's time goes, when somebody asks: one look at a flag after each op otherwise.
mod profile {
    use core::cell::UnsafeCell;

    use super::LeaderOnly;
    use super::clock::now;
    use crate::forward::Op;

    struct Profile {
        is_on: bool,
        last_ms: f64,
        /// By [`Op`].
        op_ms: [f64; Op::ALL.len()],
    }

    static PROFILE: LeaderOnly<Profile> =
        LeaderOnly(UnsafeCell::new(Profile { is_on: false, last_ms: 0.0, op_ms: [0.0; Op::ALL.len()] }));

    fn profile() -> &'static mut Profile {
        // SAFETY: the leader alone calls what follows, and none of it calls another part of it meanwhile
        unsafe { &mut *PROFILE.0.get() }
    }

    /// A pass begins.
    pub fn begin() {
        let profile = profile();
        if profile.is_on {
            profile.last_ms = now();
        }
    }

    /// The time since the op before belongs to this one.
    pub fn done(op: Op) {
        let profile = profile();
        if profile.is_on {
            let now_ms = now();
            profile.op_ms[op as usize] += now_ms - profile.last_ms;
            profile.last_ms = now_ms;
        }
    }

    /// Begins a profile, or ends it.
    #[unsafe(no_mangle)]
    extern "C" fn set_profile(is_on: u32) {
        let profile = profile();
        profile.is_on = is_on != 0;
        if profile.is_on {
            profile.op_ms = [0.0; Op::ALL.len()];
        }
    }

    /// Where the milliseconds of each op lie, summed over layers and passes: f64, in the order of [`Op`].
    #[unsafe(no_mangle)]
    extern "C" fn op_ms() -> *const f64 {
        profile().op_ms.as_ptr()
    }
}

#[cfg(not(feature = "threads"))]
mod team {
    use core::sync::atomic::AtomicU32;

    use super::{Pass, clock, profile};
    use crate::forward::Op;
    use crate::team::Platform;

    /// Nobody to wait for.
    enum Alone {}

    impl Platform for Alone {
        fn sleep(_: &AtomicU32, _: u32) {}
        fn wake(_: &AtomicU32) {}
        fn done(op: Op) {
            profile::done(op);
        }
        fn should_pause() -> bool {
            clock::is_late()
        }
    }

    pub fn run(pass: &Pass) {
        profile::begin();
        pass.run::<Alone>(0);
    }
}

#[cfg(feature = "threads")]
mod team {
    use core::sync::atomic::Ordering::SeqCst;
    use core::sync::atomic::{AtomicPtr, AtomicU32};

    use alloc::boxed::Box;

    use super::{Pass, clock, profile, state, vec};
    use crate::forward::Op;
    use crate::team::{Platform, wait_while};

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        /// `Atomics.wait`
        fn sleep(word: *const u32, expected: u32);
        /// `Atomics.notify`
        fn wake(word: *const u32);
    }

    struct Browser;

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

    /// Counts the passes; a member that sees it change finds its work in [`PASS`].
    static EPOCH: AtomicU32 = AtomicU32::new(0);
    static SLEEPING: AtomicU32 = AtomicU32::new(0);
    static PASS: AtomicPtr<Pass> = AtomicPtr::new(core::ptr::null_mut());
    /// Members of the team in the pass under way.
    static N_MEMBERS: AtomicU32 = AtomicU32::new(1);
    /// Members that are done with the pass and will not look at it again.
    static N_DONE: AtomicU32 = AtomicU32::new(0);

    /// Has every member run the pass, the leader being number 0.
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

    /// The life of member `index`, from 1 on: it never returns. `epoch`: what [`epoch`] said when it was made.
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

    /// From the next pass on, a team of this size.
    #[unsafe(no_mangle)]
    extern "C" fn set_members(n_members: usize) {
        let state = state();
        state.scratch = state.model.as_ref().map(|m| m.scratch(n_members));
    }

    /// Bytes of a member's stack: what a pass needs is some kilobytes.
    const STACK_BYTES: usize = 128 << 10;

    /// A new member's stack, for as long as the module lives. → its top
    #[unsafe(no_mangle)]
    extern "C" fn member_stack() -> *mut u8 {
        let stack = Box::leak(vec![0_u64; STACK_BYTES / 8].into_boxed_slice());
        // SAFETY: one past the end of the allocation; a multiple of 16 as the stack pointer must be
        let top = unsafe { stack.as_mut_ptr().cast::<u8>().add(STACK_BYTES) };
        top.map_addr(|a| a & !15)
    }
}
