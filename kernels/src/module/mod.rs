//! The kernels as a WebAssembly module of their own: one model in one memory, called by www/src/kernels.ts.
//!
//! Only the leader calls these functions, but for [`member`], in which each further thread spends its life.

#[cfg(not(feature = "threads"))]
#[path = "alone.rs"]
mod team;
#[cfg(feature = "threads")]
#[path = "threads.rs"]
mod team;

mod clock;
mod profile;

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout as Block};
use core::cell::UnsafeCell;

use crate::cache::Cache;
use crate::format::Dtype;
use crate::forward::{Pass, Rows};
use crate::layout::{Activation, Dims};
use crate::model::{Forward, Model, Output};
use crate::scratch::Scratch;

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
    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        let (n_before, at) = lock::hold(|| {
            let n_pages = core::arch::wasm32::memory_size(0);
            // SAFETY: as above
            (n_pages.saturating_mul(1 << 16), unsafe { (*self.0.0.get()).malloc(block.size(), line_aligned(block)) })
        });
        if !at.is_null() {
            // what the memory has grown by meanwhile is zero: a model's image is not written twice for nothing
            let n_stale = n_before.saturating_sub(at as usize).min(block.size());
            // SAFETY: so many bytes, or more, have been allocated there
            unsafe { at.write_bytes(0, n_stale) };
        }
        at
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
