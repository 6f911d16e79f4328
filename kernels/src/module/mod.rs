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

use alloc::sync::Arc;
use alloc::vec::Vec;

#[cfg(not(feature = "threads"))]
use alone as team;
#[cfg(feature = "threads")]
use threads as team;

use crate::activation::Activation;
use crate::adapter::Adapter;
use crate::cache::Cache;
use crate::dims::Dims;
use crate::format::Dtype;
use crate::forward::{Forward, Output, Rows};
use crate::model::PackedModel;
use crate::noise;
use crate::op::Op;
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
    let dims = Dims {
        vocab_size,
        n_positions,
        n_embd,
        n_layer,
        n_head,
        n_inner,
        activation: Activation::ALL[activation as usize],
        layer_norm_epsilon,
        scale_attn_weights: flags & 1 != 0,
        scale_attn_by_inverse_layer_idx: flags & 2 != 0,
        tie_word_embeddings: flags & 4 != 0,
    };
    *state() = State::default();
    let Some(model) = PackedModel::new(dims, Dtype::ALL[dtype as usize]) else { return 0 };
    let n_bytes = model.layout().n_bytes;
    *state() = State { scratch: Some(model.scratch(1)), model: Some(model), ..State::default() };
    n_bytes
}

/// Where the image begins.
#[unsafe(no_mangle)]
extern "C" fn image() -> *mut u8 {
    state().model.as_mut().map_or(core::ptr::null_mut(), |m| m.image_mut().as_mut_ptr())
}

/// Where the caller writes what the next forward pass is of, `n` numbers: for each text the handle of its cache, how
/// many ids it has, and which of their logits are wanted (0 = none, 1 = of the last, 2 = of all); then the ids of all
/// texts.
#[unsafe(no_mangle)]
extern "C" fn plan(n: usize) -> *mut u32 {
    let plan = &mut state().plan;
    plan.resize(n, 0);
    plan.as_mut_ptr()
}

/// Begins an adapter, to which [`adapter_add`] adds, under a number that none has had.
#[unsafe(no_mangle)]
extern "C" fn adapter_new(number: usize) {
    let State { model, adapters, .. } = state();
    adapters.resize(adapters.len().max(number + 1), None);
    adapters[number] = model.as_ref().map(|model| Arc::new(Adapter::new(model.dims())));
}

/// Where the caller writes `n` numbers: A [r, K] and then B [R, r] of an adapter's part. → null if there is not enough
/// memory for the part of this rank, which has as many once more
#[unsafe(no_mangle)]
extern "C" fn adapter_numbers(n: usize) -> *mut f32 {
    let numbers = &mut state().numbers;
    numbers.clear();
    if !can_allocate(3 * 4 * n + (1 << 20)) {
        return core::ptr::null_mut();
    }
    numbers.resize(n, 0.0);
    numbers.as_mut_ptr()
}

/// Adds what [`adapter_numbers`] holds, a part of rank `rank`, to the matrix of part `op` of a block. No cache may have
/// been made with the adapter yet.
#[unsafe(no_mangle)]
extern "C" fn adapter_add(handle: usize, layer: usize, op: usize, rank: usize, scale: f32) {
    let State { model, adapters, numbers, .. } = state();
    if let (Some(model), Some(adapter)) = (model, adapters[handle].as_mut().and_then(Arc::get_mut)) {
        let (n_cols, _) = Adapter::shape(model.dims(), Op::ALL[op]);
        let (a, b) = numbers.split_at(rank * n_cols);
        adapter.add(layer, Op::ALL[op], a, b, scale);
    }
    *numbers = Vec::new();
}

/// Gives an adapter up; caches that were made with it keep it.
#[unsafe(no_mangle)]
extern "C" fn adapter_free(handle: usize) {
    state().adapters[handle] = None;
}

/// A new cache, of a text that is computed with an adapter, or with none (-1). → its handle
#[unsafe(no_mangle)]
extern "C" fn cache_new(adapter: isize) -> usize {
    let State { model, adapters, caches, .. } = state();
    let adapter = usize::try_from(adapter).ok().and_then(|handle| adapters.get(handle).cloned().flatten());
    place_for(caches, model.as_ref().map(|model| model.new_cache_with(adapter)))
}

/// A copy of a cache, which shares its pages until one of the two writes to them. → its handle, or -1 if there is no
/// such cache
#[unsafe(no_mangle)]
extern "C" fn cache_clone(handle: usize) -> isize {
    match state().caches[handle].clone() {
        Some(cache) => place_for(&mut state().caches, Some(cache)) as isize,
        None => -1,
    }
}

/// Bytes of a cache's pages, of which it may share some with others.
#[unsafe(no_mangle)]
extern "C" fn cache_bytes(handle: usize) -> usize {
    state().caches[handle].as_ref().map_or(0, Cache::n_bytes)
}

/// Bytes of the pages of all caches.
#[unsafe(no_mangle)]
extern "C" fn caches_bytes() -> usize {
    Cache::n_bytes_of(state().caches.iter().flatten())
}

/// Stores something in the place of what has been freed, if there is any. → its handle
fn place_for<T>(all: &mut Vec<Option<T>>, it: Option<T>) -> usize {
    let free = all.iter().position(Option::is_none).unwrap_or_else(|| {
        all.push(None);
        all.len() - 1
    });
    all[free] = it;
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

/// Prepares a forward pass of the first `n_texts` texts of [`plan`], each behind what its cache holds; [`advance`] runs
/// it. Attention weights are there for a single text. → 0, or 1 if there is not enough memory
#[unsafe(no_mangle)]
extern "C" fn forward(n_texts: usize, with_attentions: u32) -> u32 {
    let State { model, caches, plan, forward, .. } = state();
    let Some(model) = model else { return 1 };
    *forward = None;
    let (texts, mut ids) = plan.split_at(3 * n_texts);
    let (mut handles, mut shares, mut n_bytes) = (Vec::new(), Vec::new(), 0);
    for &[handle, n_ids, rows] in texts.as_chunks().0 {
        let (handle, n_ids) = (handle as usize, n_ids as usize);
        let rows = [Rows::None, Rows::Last, Rows::All][rows as usize];
        let Some(cache) = &caches[handle] else { return 1 };
        n_bytes += model.pass_bytes(cache, n_ids, rows, with_attentions != 0);
        let (of_text, rest) = ids.split_at(n_ids);
        handles.push(handle);
        shares.push((of_text.to_vec(), rows));
        ids = rest;
    }
    if !can_allocate(n_bytes) {
        return 1;
    }
    *forward = Some((handles, Forward::batch(shares).with_attentions(with_attentions != 0)));
    0
}

/// Runs the forward pass for about `budget_ms` milliseconds. → 1 if it is done, else 0
#[unsafe(no_mangle)]
extern "C" fn advance(budget_ms: f64) -> u32 {
    let State { model, scratch, caches, forward, .. } = state();
    let (Some(model), Some(scratch), Some((handles, forward))) = (model, scratch, forward) else { return 1 };
    // out of their places while the pass has them; one that has been freed meanwhile is empty, and nobody asks for it
    let mut taken: Vec<Cache> =
        handles.iter().map(|&handle| caches[handle].take().unwrap_or_else(|| model.new_cache())).collect();
    clock::set_deadline(budget_ms);
    let is_done = model.forward(forward, scratch, &mut taken, team::run);
    for (&handle, cache) in handles.iter().zip(taken) {
        caches[handle] = Some(cache);
    }
    is_done.into()
}

fn output(text: usize) -> Option<&'static Output> {
    state().forward.as_ref().and_then(|(_, forward)| forward.outputs.get(text))
}

/// Where the logits of a text in the last forward pass lie: f32 [rows, V].
#[unsafe(no_mangle)]
extern "C" fn logits(text: usize) -> *const f32 {
    output(text).map_or(core::ptr::null(), |o| o.logits.as_ptr())
}

/// How many logits the last forward pass gave for a text: rows · V.
#[unsafe(no_mangle)]
extern "C" fn n_logits(text: usize) -> usize {
    output(text).map_or(0, |o| o.logits.len())
}

/// Where the attention weights of a block lie: f32 [H, T, S].
#[unsafe(no_mangle)]
extern "C" fn attentions(layer: usize) -> *const f32 {
    output(0).and_then(|o| o.attentions.get(layer)).map_or(core::ptr::null(), Vec::as_ptr)
}

/// How many attention weights a block of the last forward pass has: H · T · S, or 0 if they were not asked for.
#[unsafe(no_mangle)]
extern "C" fn n_attentions(layer: usize) -> usize {
    output(0).and_then(|o| o.attentions.get(layer)).map_or(0, Vec::len)
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

/// Multiplies bytes, where the weights are integers, or 16-bit numbers; both give the same bits. To be called when the
/// image is whole. → whether it does so; not if there is not enough memory
#[unsafe(no_mangle)]
extern "C" fn use_byte_dots(is_wanted: u32) -> u32 {
    let Some(model) = &mut state().model else { return 0 };
    let is_used = is_wanted != 0 && can_allocate(model.offsets_bytes());
    model.use_byte_dots(is_used);
    is_used.into()
}
