//! The GPU engine: few dispatches, nothing created per token, and the chosen token stays on the device.
//!
//! ```text
//! Loader: image (packed weights) -> model (kernels with their buffers) -> Gpu
//! Gpu::forward: params, ids -> one pass, one submit -> logits            (the trait; reads V floats back)
//! Gpu::submit:  params (, ids) -> the same pass, top_k, choose -> Pending -> Gpu::chosen (reads at most 1 KB back)
//! ```
//!
//! In reading order: `image` (where the weights lie), `kernel` (how WGSL becomes a dispatch), `pipelines` (compiling it),
//! `scratch` (what kernels hand to each other), `tuning` (how they are spread over threads; `search` measures it), `model`
//! (which dispatches there are; the shaders are in `wgsl/`), `cache`, this file, `ahead` (decoding without the wait). A picture of a token's pass is in `docs/token-pass.md`.
//!
//! The engine takes any `wgpu` device; nothing here names a backend or blocks a page: natively a read-back polls the device,
//! in a page the browser does.

mod ahead;
mod attentions;
mod cache;
mod context;
mod image;
mod kernel;
mod load;
mod model;
mod params;
mod pipelines;
mod profile;
mod scratch;
mod search;
mod timer;
mod tuning;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wgpu::SubmissionIndex;

pub use super::{Choose, Chosen};
pub use ahead::{Input, Pending};
pub use cache::GpuCache;
pub use context::Counters;
pub use image::Plan;
pub use load::Loader;
pub use model::MAX_K;
pub use pipelines::{Ahead, CompileAhead};
pub use profile::Span;
pub use tuning::Tuning;

use self::attentions::Attentions;
use self::cache::CacheShape;
use self::context::{Context, Staging};
use self::image::Image;
use self::kernel::{PassSize, Step};
use self::model::Model;
use self::params::Params;
use self::pipelines::Pipelines;
use super::{Cache, Engine, Output, Rows, check_bounds};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer::TokenId;

/// A model in a GPU's memory. Made by [`Loader`].
pub struct Gpu {
    config: Config,
    context: Rc<Context>,
    image: Image,
    model: Model,
    pipelines: Pipelines,
    cache_shape: Rc<CacheShape>,
    /// The kernels that give attention weights, from the first call that asks for them on.
    attentions: RefCell<Option<Rc<Attentions>>>,
    /// Counts what was written to `scratch.ids`, by the host or by `choose`, so that a choice that is gone is noticed.
    n_ids_written: Cell<u64>,
}

/// Where a pass's ids come from.
#[derive(Clone, Copy)]
enum Ids<'a> {
    Host(&'a [TokenId]),
    /// The one that the last `choose` left on the device.
    Device,
}

/// What a pass computes after the blocks.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Nothing,
    /// Logits of the newest token.
    Last,
    /// Logits of all new tokens.
    All,
    /// Logits of the newest token, and the next token from them.
    Choose(Choose),
}

/// A pass that the device is still at, and the buffer that its result goes to.
struct Submitted {
    staging: Option<Staging>,
    /// Bytes of it that count.
    n_bytes: u64,
    attentions: Option<Staging>,
    index: SubmissionIndex,
}

impl Gpu {
    /// What has been asked of the device so far.
    pub fn counters(&self) -> Counters {
        self.context.counters()
    }

    /// How many different pipelines there are.
    pub fn n_pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// How work is spread over threads.
    pub fn tuning(&self) -> Tuning {
        self.model.tuning
    }

    /// Whether the shaders use subgroups.
    pub fn has_subgroups(&self) -> bool {
        self.context.has_subgroups
    }

    /// Bytes of weights in the device's memory.
    pub fn weight_bytes(&self) -> usize {
        self.image.layout.n_bytes
    }

    /// Reads a piece of the packed weights back, so that they can be kept; offset and length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for a piece beyond the image, [`Error::DeviceLost`].
    pub async fn read(&self, offset: usize, n_bytes: usize) -> Result<Vec<u8>> {
        self.image.read(offset, n_bytes).await
    }

    /// Measures the time that recording takes with this clock (milliseconds, any origin).
    pub fn set_clock(&self, clock: fn() -> f64) {
        self.context.clock.set(Some(clock));
    }

    /// Bytes of device memory for what passes hand from kernel to kernel.
    pub fn scratch_bytes(&self) -> u64 {
        self.model.scratch.n_bytes()
    }

    /// Runs every kernel once, so that the first token of a text does not wait for a driver that compiles late, and holds
    /// them against each other: a prompt at once and token by token are different kernels that must give the same logits,
    /// and the best of them must be what the device chooses. → the largest difference, in units of the largest logit
    ///
    /// # Errors
    /// [`Error::InvalidLogits`] if they differ; and as [`Engine::forward`].
    pub async fn warm_up(&self) -> Result<f32> {
        const TOLERANCE: f32 = 1e-3;
        let (v, n) = (self.config.vocab_size, self.config.n_positions.min(5).min(self.model.widths.max_rows));
        let ids: Vec<TokenId> = (0..n).map(|i| (i * 7919 % v) as TokenId).collect();
        let at_once = self.forward(&mut self.new_cache(), &ids, Rows::All, false).await?.logits;
        let mut one_by_one = Vec::with_capacity(at_once.len());
        let mut cache = self.new_cache();
        for id in &ids {
            one_by_one.extend(self.forward(&mut cache, std::slice::from_ref(id), Rows::Last, false).await?.logits);
        }
        let largest = one_by_one.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
        let differ = |what: &str, a: f32, b: f32| match (a - b).abs() / largest {
            d if d <= TOLERANCE => Ok(d),
            _ => Err(Error::invalid_logits(format!("self-test: {what}: {a} and {b}"))),
        };
        let mut worst = 0.0_f32;
        for (&a, &b) in at_once.iter().zip(&one_by_one) {
            worst = worst.max(differ("a prompt at once and token by token give different logits", a, b)?);
        }
        let pending = self.submit(&mut self.new_cache(), Input::Ids(&ids), &Choose::default())?;
        let best = self.chosen(pending).await?.top.first().map_or(f32::NAN, |top| top.1);
        let expected = at_once[at_once.len() - v..].iter().copied().fold(f32::MIN, f32::max);
        Ok(worst.max(differ("the best logit on the device and on the host", best, expected)?))
    }

    /// # Errors
    /// [`Error::DeviceLost`] or whatever else the device has reported; [`Error::InvalidState`] for another engine's cache.
    fn check(&self, cache: &GpuCache) -> Result<()> {
        self.context.check()?;
        match cache.belongs_to(&self.cache_shape) {
            true => Ok(()),
            false => Err(Error::InvalidState("this cache belongs to another engine".into())),
        }
    }

    /// Records one pass and submits it. The cache holds the new tokens from here on. Waits for nothing.
    ///
    /// The caller answers for the bounds: `n_new` is no more than one pass takes, and all fit the context window.
    fn submit_pass(
        &self,
        cache: &mut GpuCache,
        ids: Ids,
        n_new: usize,
        end: End,
        attentions: Option<&Attentions>,
    ) -> Submitted {
        let begin_ms = self.context.now_ms();
        cache.reserve(cache.n_tokens() + n_new);
        let choose = if let End::Choose(choose) = end { choose } else { Choose::default() };
        let params = Params { n_past: cache.n_tokens(), n_new, split_keys: self.model.tuning.split_keys, choose };
        let host_ids = if let Ids::Host(ids) = ids { Some(ids) } else { None };
        self.write_inputs(&params, host_ids);
        let scratch = &self.model.scratch;

        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let n_dispatches = self.record(&mut encoder, cache, &params, end, attentions);
        let (source, n_bytes) = match end {
            End::Nothing => (None, 0),
            End::Last => (Some(&scratch.logits), 4 * self.config.vocab_size),
            End::All => (Some(&scratch.logits), 4 * self.model.widths.vocab_padded * n_new),
            End::Choose(choose) => (Some(&scratch.choice), 16 + 8 * choose.k),
        };
        let n_bytes = n_bytes as u64;
        let staging = source.map(|source| {
            let staging = self.context.staging(n_bytes);
            encoder.copy_buffer_to_buffer(source, 0, &staging.buffer, 0, n_bytes);
            staging
        });
        let weights = attentions.map(|a| a.copy(&self.context, &mut encoder, &params));
        cache.advance(n_new);
        let commands = encoder.finish();
        self.context.count(|c| {
            c.n_dispatches += n_dispatches;
            c.encode_ms += self.context.now_ms() - begin_ms;
        });
        let index = self.context.submit(commands);
        Submitted { staging, n_bytes, attentions: weights, index }
    }

    /// Hands over what a pass reads; without ids it takes the one that is on the device.
    fn write_inputs(&self, params: &Params, ids: Option<&[TokenId]>) {
        let (scratch, queue) = (&self.model.scratch, &self.context.queue);
        queue.write_buffer(&scratch.params, 0, &params.to_bytes());
        self.n_ids_written.update(|n| n + 1);
        if let Some(ids) = ids {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            queue.write_buffer(&scratch.ids, 0, &bytes);
        }
    }

    /// → how many dispatches were recorded
    fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        cache: &GpuCache,
        params: &Params,
        end: End,
        attentions: Option<&Attentions>,
    ) -> u64 {
        let size = PassSize::of(params);
        let mut n = 0;
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.for_each_step(params.n_new, end, attentions, |step, layer| {
            step.record(&mut pass, layer.and_then(|i| cache.bind_group(i)), size);
            n += 1;
        });
        n
    }

    /// The dispatches of a pass in their order, each with the layer whose keys and values it may use.
    fn for_each_step<'a>(
        &'a self,
        n_new: usize,
        end: End,
        attentions: Option<&'a Attentions>,
        mut each: impl FnMut(&'a Step, Option<usize>),
    ) {
        let model = &self.model;
        each(&model.embed, None);
        for (i, layer) in model.layers.iter().enumerate() {
            let steps = if n_new == 1 { &layer.decode[..] } else { &layer.prefill[..] };
            steps.iter().for_each(|step| each(step, Some(i)));
            if let Some(attentions) = attentions {
                each(attentions.step(i), Some(i)); // this layer's queries are still there
            }
        }
        match end {
            End::Nothing => {}
            End::Last => each(&model.head, None),
            End::All => model.head_rows.iter().for_each(|step| each(step, None)),
            End::Choose(_) => {
                each(&model.head, None);
                model.choose.iter().for_each(|step| each(step, None));
            }
        }
    }

    /// The rows without what pads them. padded: f32 [n, V'] → [n, V]
    fn without_padding(&self, padded: &[u8], logits: &mut Vec<f32>) {
        let widths = &self.model.widths;
        for row in padded.chunks(4 * widths.vocab_padded) {
            let words = row.as_chunks::<4>().0.iter().take(widths.vocab);
            logits.extend(words.map(|&word| f32::from_le_bytes(word)));
        }
    }

    /// The kernels for attention weights, made when they are first needed.
    async fn attentions(&self) -> Result<Rc<Attentions>> {
        if let Some(made) = self.attentions.borrow().clone() {
            return Ok(made);
        }
        let make = || Attentions::new(&self.config, &self.model, &self.context, &self.pipelines);
        let made = Rc::new(self.context.checked("attention weights", 0, make).await?);
        self.pipelines.compile().await?;
        *self.attentions.borrow_mut() = Some(made.clone());
        Ok(made)
    }
}

impl Engine for Gpu {
    type Cache = GpuCache;
    type Pending = Pending;

    fn config(&self) -> &Config {
        &self.config
    }

    fn new_cache(&self) -> GpuCache {
        GpuCache::new(self.cache_shape.clone())
    }

    async fn forward(
        &self,
        cache: &mut GpuCache,
        ids: &[TokenId],
        rows: Rows,
        with_attentions: bool,
    ) -> Result<Output> {
        let n_past = cache.n_tokens();
        check_bounds(&self.config, n_past, ids)?;
        self.check(cache)?;
        let attentions = if with_attentions { Some(self.attentions().await?) } else { None };
        let mut weights = with_attentions.then(|| attentions::Collected::new(&self.config, n_past, ids.len()));
        let mut logits = Vec::new();

        let widths = &self.model.widths;
        let mut n_chunk = attentions.as_ref().map_or(widths.max_chunk, |a| a.max_tokens.min(widths.max_chunk));
        if rows == Rows::All {
            n_chunk = n_chunk.min(widths.max_rows);
        }
        let n_chunks = ids.len().div_ceil(n_chunk);
        for (i, chunk) in ids.chunks(n_chunk).enumerate() {
            let end = match rows {
                Rows::All if chunk.len() > 1 => End::All,
                Rows::Last if i + 1 < n_chunks => End::Nothing,
                Rows::All | Rows::Last => End::Last,
                Rows::None => End::Nothing,
            };
            let n_past = cache.n_tokens();
            let pass = self.submit_pass(cache, Ids::Host(chunk), chunk.len(), end, attentions.as_deref());
            if let Some(staging) = pass.staging {
                let bytes = staging.read(pass.n_bytes, pass.index.clone()).await?;
                self.without_padding(&bytes, &mut logits);
            }
            if let (Some(staging), Some(weights)) = (pass.attentions, &mut weights) {
                let n_bytes = weights.chunk_bytes(n_past, chunk.len());
                weights.add(n_past, chunk.len(), &staging.read(n_bytes, pass.index).await?);
            }
        }
        self.context.check()?;
        Ok(Output { logits, attentions: weights.map(attentions::Collected::into_blocks) })
    }

    fn propose(&self, cache: &mut GpuCache, ids: &[TokenId], choose: &Choose) -> Result<Option<Pending>> {
        if choose.k > MAX_K { Ok(None) } else { self.submit(cache, Input::Ids(ids), choose).map(Some) }
    }

    fn propose_next(&self, cache: &mut GpuCache, last: &Pending, choose: &Choose) -> Result<Option<Pending>> {
        if !self.is_newest(last) { Ok(None) } else { self.submit(cache, Input::Chosen(last), choose).map(Some) }
    }

    async fn chosen(&self, pending: Pending) -> Result<Chosen> {
        Gpu::chosen(self, pending).await // the one in ahead.rs
    }
}
