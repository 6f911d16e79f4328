//! The kernels as a WebAssembly module of their own: one model in one memory, called by www/src/engine/kernels.ts.
//!
//! These are the functions that it exports, with those of `profile` and, for several threads, of `threads`. Only the
//! leader calls them, but for `member`, in which each further thread spends its life.

mod allocator;
#[cfg(not(feature = "threads"))]
mod alone;
mod clock;
mod leader_only;
mod profile;
mod state;
#[cfg(feature = "threads")]
mod threads;

use alloc::vec;
use alloc::vec::Vec;

#[cfg(not(feature = "threads"))]
use alone as team;
#[cfg(feature = "threads")]
use threads as team;

use crate::activation::Activation;
use crate::cache::Cache;
use crate::dims::Dims;
use crate::format::Dtype;
use crate::forward::{Forward, Output, Rows};
use crate::model::PackedModel;
use crate::noise;
use crate::simd;
use state::{State, state};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Makes room for a model, in place of the one before. flags: 1 = scale_attn_weights, 2 =
/// scale_attn_by_inverse_layer_idx, 4 = tie_word_embeddings. → bytes of its image, or 0 if there is not enough memory
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // only numbers can cross the module's border
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
    let Some(model) = PackedModel::new(dims, Dtype::ALL[dtype as usize]) else { return 0 };
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

/// Where the caller writes the ids of a forward pass: u32 [n_positions].
#[unsafe(no_mangle)]
extern "C" fn ids() -> *mut u32 {
    state().ids.as_mut_ptr()
}

/// A new cache. → its handle
#[unsafe(no_mangle)]
extern "C" fn cache_new() -> usize {
    let cache = state().model.as_ref().map(PackedModel::new_cache);
    keep(cache)
}

/// A copy of a cache. → its handle, or -1 if there is not enough memory
#[unsafe(no_mangle)]
extern "C" fn cache_clone(handle: usize) -> isize {
    let Some(cache) = state().caches[handle].as_ref() else { return -1 };
    if !can_allocate(cache.n_bytes()) {
        return -1;
    }
    keep(Some(cache.clone())) as isize
}

/// Stores a cache, in the place of a freed one if there is any. → its handle
fn keep(cache: Option<Cache>) -> usize {
    let caches = &mut state().caches;
    let free = caches.iter().position(Option::is_none).unwrap_or_else(|| {
        caches.push(None);
        caches.len() - 1
    });
    caches[free] = cache;
    free
}

/// Forgets all but the first `n_tokens` of a cache.
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

/// Whether so many bytes can be allocated. They are asked for as one block, and what is then allocated in parts fits
/// that block.
fn can_allocate(n_bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(n_bytes).is_ok()
}

/// Prepares a forward pass of the first `n_ids` of [`ids`] behind what the cache holds; [`advance`] runs it. rows: 0 =
/// none, 1 = last, 2 = all. → 0, or 1 if there is not enough memory
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

/// Runs the forward pass for about `budget_ms` milliseconds. → 1 if it is done, else 0
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

/// Where the logits of the last forward pass lie: f32 [rows, V].
#[unsafe(no_mangle)]
extern "C" fn logits() -> *const f32 {
    output().map_or(core::ptr::null(), |o| o.logits.as_ptr())
}

/// How many logits the last forward pass gave: rows · V.
#[unsafe(no_mangle)]
extern "C" fn n_logits() -> usize {
    output().map_or(0, |o| o.logits.len())
}

/// Where the attention weights of a block lie: f32 [H, T, S].
#[unsafe(no_mangle)]
extern "C" fn attentions(layer: usize) -> *const f32 {
    output().and_then(|o| o.attentions.get(layer)).map_or(core::ptr::null(), Vec::as_ptr)
}

/// How many attention weights a block of the last forward pass has: H · T · S, or 0 if they were not asked for.
#[unsafe(no_mangle)]
extern "C" fn n_attentions(layer: usize) -> usize {
    output().and_then(|o| o.attentions.get(layer)).map_or(0, Vec::len)
}

/// Reads the whole image once and does nothing else: no token can take less time. → all of it combined by xor, since
/// the compiler would remove reads whose result is not used
#[unsafe(no_mangle)]
extern "C" fn sweep() -> i32 {
    state().model.as_ref().map_or(0, |m| simd::sweep(bytemuck::cast_slice(m.image())))
}

/// Fills the image with random weights, for measuring.
#[unsafe(no_mangle)]
extern "C" fn fill(seed: u32) {
    if let Some(model) = &mut state().model {
        noise::fill(model, seed.into());
    }
}
