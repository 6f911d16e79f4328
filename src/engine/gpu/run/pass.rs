//! One pass over the model: the dispatches in their order, recorded and submitted at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use wgpu::SubmissionIndex;

use super::attentions::Attentions;
use super::batch_made::Batch;
use crate::checkpoint::Config;
use crate::engine::gpu::context::{Context, Counters, Staging, WorkDone};
use crate::engine::gpu::kernels::{Dispatch, DispatchMaker, GpuAdapter, GpuModel, Params, PassSize, Pipelines, Tuning};
use crate::engine::gpu::memory::{CacheShape, GpuCache, Image};
use crate::engine::{Cache, Choose};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// A model in a GPU's memory. Made by [`GpuLoader`](crate::engine::gpu::GpuLoader).
pub struct GpuEngine {
    pub(crate) config: Config,
    pub(crate) context: Rc<Context>,
    pub(crate) image: Image,
    pub(crate) model: GpuModel,
    pub(crate) pipelines: Pipelines,
    pub(crate) cache_shape: Rc<CacheShape>,
    /// The kernels for attention weights; made at the first call that asks for them.
    pub(crate) attentions: RefCell<Option<Rc<Attentions>>>,
    /// What passes over several texts need; made at the first of them.
    pub(crate) batch: RefCell<Option<Rc<Batch>>>,
    /// LoRA adapters by their number.
    pub(crate) adapters: RefCell<BTreeMap<usize, Rc<GpuAdapter>>>,
    /// The last piece of a prompt that nothing was read of.
    pub(crate) piece: RefCell<Option<WorkDone>>,
    /// How often `scratch.ids` was written, by the host or by `choose`: tells whether a choice has been overwritten.
    pub(crate) n_ids_written: Cell<u64>,
}

/// Where a pass's ids come from.
#[derive(Clone, Copy)]
pub(crate) enum Ids<'a> {
    Host(&'a [TokenId]),
    /// The one that the last `choose` left on the device.
    Device,
}

/// What a pass computes after the blocks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Nothing,
    /// Logits of the newest token.
    Last,
    /// Logits of all new tokens.
    All,
    /// Logits of the newest token, and the next token from them.
    Choose(Choose),
}

/// A pass that was submitted, and the buffers that receive its results.
pub(crate) struct Submitted {
    pub(crate) staging: Option<Staging>,
    /// Bytes of `staging` that hold the result.
    pub(crate) n_bytes: u64,
    pub(crate) attentions: Option<Staging>,
    pub(crate) index: SubmissionIndex,
}

impl GpuEngine {
    /// Counters of what has been asked of the device so far.
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

    /// What makes dispatches of this model.
    pub(crate) fn maker(&self) -> DispatchMaker<'_> {
        let Self { config, image, model, pipelines, .. } = self;
        DispatchMaker { config, image, w: model.widths, s: &model.scratch, pipelines, tuning: model.tuning }
    }

    /// Reads a piece of the packed weights back, so that they can be kept; offset and length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for a piece beyond the image, [`Error::DeviceLost`].
    pub async fn read(&self, offset: usize, n_bytes: usize) -> Result<Vec<u8>> {
        self.image.read(offset, n_bytes).await
    }

    /// Sets the clock (milliseconds, any origin) that measures how long recording a pass takes.
    pub fn set_clock(&self, clock: fn() -> f64) {
        self.context.clock.set(Some(clock));
    }

    /// From now on acts as if the device were full, or does not any more. For tests: a device that is full is hard to
    /// come by.
    #[doc(hidden)]
    pub fn act_full(&self, acts_full: bool) {
        self.context.acts_full.set(acts_full);
    }

    /// # Errors
    /// [`Error::DeviceLost`] or whatever else the device has reported; [`Error::InvalidState`] for another engine's
    /// cache.
    pub(crate) fn check(&self, cache: &GpuCache) -> Result<()> {
        self.context.check()?;
        match cache.belongs_to(&self.cache_shape) {
            true => Ok(()),
            false => Err(Error::InvalidState("this cache belongs to another engine".into())),
        }
    }

    /// Records one pass and submits it, and adds the new tokens to the cache. Does not wait.
    ///
    /// The caller has checked the bounds: `n_new` is at most what one pass takes, and all tokens fit the context
    /// window and the room that the cache has.
    pub(crate) fn submit_pass(
        &self,
        cache: &mut GpuCache,
        ids: Ids,
        n_new: usize,
        end: End,
        attentions: Option<&Attentions>,
    ) -> Submitted {
        let begin_ms = self.context.now_ms();
        let choose = if let End::Choose(choose) = end { choose } else { Choose::default() };
        let params = Params::of_text(cache.n_tokens(), n_new, choose);
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

    /// Writes a pass's inputs. Without `ids` the pass uses the id that is on the device already.
    pub(crate) fn write_inputs(&self, params: &Params, ids: Option<&[TokenId]>) {
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
        let adapter = cache.adapter().map(|adapter| &**adapter);
        self.for_each_step(params.n_new, end, adapter, attentions, |step, layer| {
            step.record(&mut pass, layer.and_then(|i| cache.bind_group(i)), size);
            n += 1;
        });
        n
    }

    /// The dispatches of a pass in their order, each with the layer whose keys and values it may use.
    pub(crate) fn for_each_step<'a>(
        &'a self,
        n_new: usize,
        end: End,
        adapter: Option<&'a GpuAdapter>,
        attentions: Option<&'a Attentions>,
        mut each: impl FnMut(&'a Dispatch, Option<usize>),
    ) {
        let model = &self.model;
        each(&model.embed, None);
        let layers = adapter.map_or(&model.layers, |adapter| &adapter.layers);
        for (i, layer) in layers.iter().enumerate() {
            let steps = if n_new == 1 { &layer.decode[..] } else { &layer.prefill[..] };
            steps.iter().for_each(|step| each(step, Some(i)));
            if let Some(attentions) = attentions {
                each(attentions.step(i), Some(i)); // while this layer's queries are still in the scratch buffer
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

    /// Copies the logits without the padding of their rows. padded: f32 [n, V'] → [n, V]
    pub(crate) fn without_padding(&self, padded: &[u8], logits: &mut Vec<f32>) {
        let widths = &self.model.widths;
        for row in padded.chunks(4 * widths.vocab_padded) {
            let words = row.as_chunks::<4>().0.iter().take(widths.vocab);
            logits.extend(words.map(|&word| f32::from_le_bytes(word)));
        }
    }

    /// The kernels for attention weights, made when they are first needed.
    pub(crate) async fn attentions(&self) -> Result<Rc<Attentions>> {
        if let Some(made) = self.attentions.borrow().clone() {
            return Ok(made);
        }
        let make = || Attentions::new(&self.config, &self.model, &self.context, &self.pipelines);
        let made = Rc::new(self.context.checked("attention weights", make).await?);
        self.pipelines.compile().await?;
        *self.attentions.borrow_mut() = Some(made.clone());
        Ok(made)
    }
}
