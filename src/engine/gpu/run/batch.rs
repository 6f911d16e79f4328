//! A pass over several texts at once: every weight is read once for all of them.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use wgpu::{BindGroup, Buffer, SubmissionIndex};

use super::pass::GpuEngine;
use crate::engine::gpu::context::Staging;
use crate::engine::gpu::kernels::{BatchLayer, BatchScratch, Dispatch, GpuAdapter, Params, PassSize, Width};
use crate::engine::gpu::limits::{CACHES_AT_ONCE, MAX_FEW, MAX_TEXTS};
use crate::engine::gpu::memory::GpuCache;
use crate::engine::{BatchRow, Cache, Choose, Engine, Output, Rows, check_bounds};
use crate::error::Result;

/// Sets of texts whose bind groups are kept: texts take turns when one joins or leaves.
const MAX_SETS: usize = 16;

/// What passes over several texts need, made at the first of them and kept.
pub(crate) struct Batch {
    scratch: BatchScratch,
    embed: Dispatch,
    layers: RefCell<HashMap<Width, Rc<Vec<BatchLayer>>>>,
    heads: RefCell<HashMap<Width, Rc<Vec<Dispatch>>>>,
    /// Bound where there are fewer texts than a dispatch binds the caches of; a buffer may not be bound twice.
    nobody: [Buffer; CACHES_AT_ONCE],
    /// By the caches, a bind group for each layer; the newest last.
    sets: RefCell<VecDeque<(CacheSet, Rc<Vec<BindGroup>>)>>,
}

/// The caches that a dispatch binds, by their numbers.
type CacheSet = [Option<u64>; CACHES_AT_ONCE];

/// What a pass is made of.
struct Made {
    batch: Rc<Batch>,
    layers: Rc<Vec<BatchLayer>>,
    head: Option<Rc<Vec<Dispatch>>>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.nobody.iter().for_each(Buffer::destroy);
    }
}

impl GpuEngine {
    /// As [`Engine::forward_batch`].
    pub(super) async fn run_texts(&self, texts: &mut [BatchRow<'_, GpuCache>]) -> Result<Vec<Output>> {
        for text in texts.iter_mut() {
            check_bounds(&self.config, text.cache.n_tokens(), text.ids)?;
            self.check(text.cache)?;
        }
        for text in texts.iter_mut() {
            text.cache.make_room(text.ids.len()).await?;
        }
        let n_before: Vec<usize> = texts.iter().map(|text| text.cache.n_tokens()).collect();
        let outputs = self.run_in_passes(texts).await;
        if outputs.is_err() {
            texts.iter_mut().zip(n_before).for_each(|(text, n_tokens)| text.cache.truncate(n_tokens));
        }
        outputs
    }

    /// Texts that have the same adapter, or none, share passes.
    async fn run_in_passes(&self, texts: &mut [BatchRow<'_, GpuCache>]) -> Result<Vec<Output>> {
        let mut groups: Vec<(Option<Rc<GpuAdapter>>, Vec<usize>, Vec<BatchRow<'_, GpuCache>>)> = Vec::new();
        let n_texts = texts.len();
        for (i, text) in texts.iter_mut().enumerate() {
            let adapter = text.cache.adapter().cloned();
            let row = BatchRow { cache: &mut *text.cache, ids: text.ids, rows: text.rows };
            let of =
                |other: &Option<Rc<GpuAdapter>>| other.as_ref().map(Rc::as_ptr) == adapter.as_ref().map(Rc::as_ptr);
            match groups.iter_mut().find(|(other, ..)| of(other)) {
                Some((_, places, rows)) => {
                    places.push(i);
                    rows.push(row);
                }
                None => groups.push((adapter, vec![i], vec![row])),
            }
        }
        let mut outputs = vec![Output::default(); n_texts];
        for (adapter, places, mut rows) in groups {
            let found = self.run_group(adapter.as_deref(), &mut rows).await?;
            places.into_iter().zip(found).for_each(|(i, output)| outputs[i] = output);
        }
        Ok(outputs)
    }

    /// Texts in their order, as many in a pass as it takes.
    async fn run_group(
        &self,
        adapter: Option<&GpuAdapter>,
        texts: &mut [BatchRow<'_, GpuCache>],
    ) -> Result<Vec<Output>> {
        let w = &self.model.widths;
        let mut outputs = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let (mut n_texts, mut n_tokens, mut n_rows) = (0, 0, 0);
            for text in rest.iter().take(MAX_TEXTS) {
                n_tokens += text.ids.len();
                n_rows += n_wanted(text);
                if n_tokens > w.max_chunk || n_rows > w.max_rows {
                    break;
                }
                n_texts += 1;
            }
            let (pass, after) = rest.split_at_mut(n_texts.max(1));
            rest = after;
            match pass {
                [text] => outputs.push(self.forward(text.cache, text.ids, text.rows, false).await?),
                texts => outputs.extend(self.run_pass(adapter, texts).await?),
            }
        }
        Ok(outputs)
    }

    /// Two texts or more, no more than a pass takes.
    async fn run_pass(
        &self,
        adapter: Option<&GpuAdapter>,
        texts: &mut [BatchRow<'_, GpuCache>],
    ) -> Result<Vec<Output>> {
        let n_tokens = texts.iter().map(|text| text.ids.len()).sum();
        let n_rows = texts.iter().map(n_wanted).sum();
        let made = self.made(adapter, n_tokens, n_rows).await?;
        let (staging, n_bytes, index) = self.submit_texts(&made, texts);
        let mut logits = Vec::new();
        match staging {
            Some(staging) => {
                let bytes = staging.read(n_bytes, index).await?;
                self.without_padding(&bytes, &mut logits);
            }
            None => self.context.wait_for(self.context.work_done(index)).await?,
        }
        self.context.check()?;
        let mut rest = &logits[..];
        let take = |text: &mut BatchRow<'_, GpuCache>| {
            text.cache.computed(text.cache.n_tokens());
            let (own, after) = rest.split_at(n_wanted(text) * self.config.vocab_size);
            rest = after;
            Output { logits: own.to_vec(), attentions: None }
        };
        Ok(texts.iter_mut().map(take).collect())
    }

    /// The dispatches for so many tokens and rows, compiled.
    async fn made(&self, adapter: Option<&GpuAdapter>, n_tokens: usize, n_rows: usize) -> Result<Made> {
        let (maker, Self { model, context, .. }) = (self.maker(), self);
        let made = self.batch.borrow().clone();
        let batch = match made {
            Some(batch) => batch,
            None => {
                let make = || {
                    let scratch = BatchScratch::new(context, &model.widths);
                    Ok(Rc::new(Batch {
                        embed: maker.batch_embed(&scratch)?,
                        nobody: std::array::from_fn(|_| context.storage("nobody's cache", 16)),
                        scratch,
                        layers: RefCell::default(),
                        heads: RefCell::default(),
                        sets: RefCell::default(),
                    }))
                };
                let batch = context.checked("the buffers for several texts", make).await?;
                *self.batch.borrow_mut() = Some(batch.clone());
                batch
            }
        };
        let width = maker.width(n_tokens);
        let all = adapter.map_or(&batch.layers, |adapter| &adapter.batch_layers);
        let made = all.borrow().get(&width).cloned();
        let layers = match made {
            Some(layers) => layers,
            None => {
                let make = || maker.batch_layers(&batch.scratch, width, adapter.map(|adapter| &adapter.parts[..]));
                let layers = Rc::new(context.checked("the kernels for several texts", make).await?);
                all.borrow_mut().insert(width, layers.clone());
                layers
            }
        };
        let width = maker.width(n_rows);
        let made = batch.heads.borrow().get(&width).cloned();
        let head = match (n_rows, made) {
            (0, _) => None,
            (_, Some(head)) => Some(head),
            (_, None) => {
                let make = || maker.batch_head(&batch.scratch, width);
                let head = Rc::new(context.checked("the kernels for several texts", make).await?);
                batch.heads.borrow_mut().insert(width, head.clone());
                Some(head)
            }
        };
        self.pipelines.compile().await?;
        Ok(Made { batch, layers, head })
    }

    /// Records a pass and submits it, and adds the new tokens to the caches.
    /// → the buffer that receives the logits, if any are wanted, and how many bytes
    fn submit_texts(
        &self,
        made: &Made,
        texts: &mut [BatchRow<'_, GpuCache>],
    ) -> (Option<Staging>, u64, SubmissionIndex) {
        let begin_ms = self.context.now_ms();
        let Made { batch, layers, head } = made;
        let (params, size, words) = self.told(texts);
        let queue = &self.context.queue;
        queue.write_buffer(&self.model.scratch.params, 0, &params.to_bytes());
        let bytes: Vec<u8> = words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        queue.write_buffer(&batch.scratch.tokens, 0, &bytes);

        let sets: Vec<_> = texts.chunks(CACHES_AT_ONCE).map(|texts| self.bind_groups(batch, texts)).collect();
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let mut n_dispatches = 0;
        let mut record = |step: &Dispatch, caches| {
            step.record(&mut pass, caches, size);
            n_dispatches += 1;
        };
        record(&batch.embed, None);
        for (i, layer) in layers.iter().enumerate() {
            layer.before.iter().for_each(|step| record(step, None));
            layer.attend.iter().zip(&sets).for_each(|(step, set)| record(step, set.get(i)));
            layer.after.iter().for_each(|step| record(step, None));
        }
        head.iter().flat_map(|head| head.iter()).for_each(|step| record(step, None));
        drop(pass);

        let n_bytes = (4 * self.model.widths.vocab_padded * params.n_rows) as u64;
        let staging = (n_bytes > 0).then(|| {
            let staging = self.context.staging(n_bytes);
            encoder.copy_buffer_to_buffer(&self.model.scratch.logits, 0, &staging.buffer, 0, n_bytes);
            staging
        });
        texts.iter_mut().for_each(|text| text.cache.advance(text.ids.len()));
        let commands = encoder.finish();
        self.context.count(|c| {
            c.n_dispatches += n_dispatches;
            c.encode_ms += self.context.now_ms() - begin_ms;
        });
        (staging, n_bytes, self.context.submit(commands))
    }

    /// What the device is told of a pass; the words are those of `BatchScratch::tokens`.
    fn told(&self, texts: &[BatchRow<'_, GpuCache>]) -> (Params, PassSize, Vec<[u32; 4]>) {
        let block_tokens = self.model.widths.block_tokens();
        let (mut tokens, mut blocks, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_keys = 0;
        for (i, text) in texts.iter().enumerate() {
            let (first, n_past, n_new) = (tokens.len(), text.cache.n_tokens(), text.ids.len());
            let token = |(id, position): (&u32, usize)| [*id, position as u32, i as u32, first as u32];
            tokens.extend(text.ids.iter().zip(n_past..).map(token));
            let block = |at: usize| [(first + at) as u32, block_tokens.min(n_new - at) as u32, 0, 0];
            blocks.extend((0..n_new).step_by(block_tokens).map(block));
            rows.extend((first + n_new - n_wanted(text)..first + n_new).map(|t| [t as u32, 0, 0, 0]));
            n_keys = n_keys.max(n_past + n_new);
        }
        let mut params = Params::of_text(0, tokens.len(), Choose::default());
        params.n_rows = rows.len();
        params.blocks_at = tokens.len();
        params.rows_at = tokens.len() + blocks.len();
        if rows.len() <= MAX_FEW {
            params.rows.iter_mut().zip(&rows).for_each(|(to, row)| *to = row[0]);
        }
        let n_blocks = blocks.len() as u32;
        let size = PassSize { n_keys: n_keys as u32, n_blocks, ..PassSize::of(&params) };
        (params, size, [tokens, blocks, rows].concat())
    }

    /// Of each layer the bind group of these texts' caches.
    fn bind_groups(&self, batch: &Batch, texts: &[BatchRow<'_, GpuCache>]) -> Rc<Vec<BindGroup>> {
        let mut set: CacheSet = [None; CACHES_AT_ONCE];
        set.iter_mut().zip(texts).for_each(|(to, text)| *to = Some(text.cache.number()));
        let mut sets = batch.sets.borrow_mut();
        if let Some(at) = sets.iter().position(|(of, _)| *of == set)
            && let Some((of, found)) = sets.remove(at)
        {
            sets.push_back((of, found.clone()));
            return found;
        }
        let layer = |i: usize| {
            let buffers = batch
                .nobody
                .iter()
                .enumerate()
                .map(|(at, nobody)| texts.get(at).and_then(|text| text.cache.buffer(i)).unwrap_or(nobody));
            let entries: Vec<_> = buffers
                .zip(0..)
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            self.context.count(|c| c.n_objects += 1);
            self.context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("caches"),
                layout: &self.pipelines.caches_layout,
                entries: &entries,
            })
        };
        let made: Rc<Vec<_>> = Rc::new((0..self.config.n_layer).map(layer).collect());
        if sets.len() == MAX_SETS {
            sets.pop_front();
        }
        sets.push_back((set, made.clone()));
        made
    }
}

/// How many of a text's new tokens' logits are wanted.
fn n_wanted(text: &BatchRow<'_, GpuCache>) -> usize {
    match text.rows {
        Rows::None => 0,
        Rows::Last => 1,
        Rows::All => text.ids.len(),
    }
}
