//! A pass over several texts at once: every weight is read once for all of them.

use std::rc::Rc;

use wgpu::SubmissionIndex;

use super::batch_made::Batch;
use super::pass::GpuEngine;
use crate::engine::gpu::context::Staging;
use crate::engine::gpu::kernels::{BatchLayer, Dispatch, GpuAdapter, Params, PassSize};
use crate::engine::gpu::limits::{CACHES_AT_ONCE, MAX_FEW, MAX_TEXTS};
use crate::engine::gpu::memory::GpuCache;
use crate::engine::{BatchRow, Cache, Choose, Engine, Output, Rows, check_bounds};
use crate::error::Result;

/// What a pass is made of.
struct Made {
    batch: Rc<Batch>,
    layers: Rc<Vec<BatchLayer>>,
    head: Option<Rc<Vec<Dispatch>>>,
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
        let mut outputs = vec![Output::default(); texts.len()];
        for group in groups(texts) {
            let Group { adapter, places, mut texts } = group;
            let found = self.run_group(adapter.as_deref(), &mut texts).await?;
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
        let (maker, context) = (self.maker(), &self.context);
        let made = self.batch.borrow().clone();
        let batch = match made {
            Some(batch) => batch,
            None => {
                let make = || Batch::new(context, &maker).map(Rc::new);
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

        let n_layer = self.config.n_layer;
        let sets: Vec<_> =
            texts.chunks(CACHES_AT_ONCE).map(|texts| batch.bind_groups(&self.pipelines, n_layer, texts)).collect();
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
}

/// Texts with the same adapter, and their places among all.
struct Group<'a> {
    adapter: Option<Rc<GpuAdapter>>,
    places: Vec<usize>,
    texts: Vec<BatchRow<'a, GpuCache>>,
}

/// In the order of their first texts.
fn groups<'a>(texts: &'a mut [BatchRow<'_, GpuCache>]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (i, BatchRow { cache, ids, rows }) in texts.iter_mut().enumerate() {
        let adapter = cache.adapter().cloned();
        let which = adapter.as_ref().map(Rc::as_ptr);
        let text = BatchRow { cache: &mut **cache, ids, rows: *rows };
        match groups.iter_mut().find(|group| group.adapter.as_ref().map(Rc::as_ptr) == which) {
            Some(group) => {
                group.places.push(i);
                group.texts.push(text);
            }
            None => groups.push(Group { adapter, places: vec![i], texts: vec![text] }),
        }
    }
    groups
}

/// How many of a text's new tokens' logits are wanted.
fn n_wanted(text: &BatchRow<'_, GpuCache>) -> usize {
    match text.rows {
        Rows::None => 0,
        Rows::Last => 1,
        Rows::All => text.ids.len(),
    }
}
