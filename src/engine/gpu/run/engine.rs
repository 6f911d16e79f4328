//! The engine's trait on a GPU, and the check that its kernels agree with each other.

use std::rc::Rc;

use super::ahead::{Input, Pending};
use super::attentions::Collected;
use super::pass::{End, GpuEngine, Ids};
use crate::adapter::Adapter;
use crate::checkpoint::Config;
use crate::engine::gpu::kernels::GpuAdapter;
use crate::engine::gpu::limits::MAX_K;
use crate::engine::gpu::memory::GpuCache;
use crate::engine::{BatchRow, Cache, Choose, Chosen, Engine, Output, Rows, check_bounds};
use crate::error::{Error, Result};
use crate::token::TokenId;

impl GpuEngine {
    /// Runs every kernel once, since some drivers compile at the first use, and compares their results: prefill and
    /// decode use different kernels and must give the same logits, and the device must choose the best of these. → the
    /// largest difference, in units of the largest logit
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
        let mut cache = self.new_cache();
        self.make_room(&mut cache, n).await?;
        let pending = self.submit(&mut cache, Input::Ids(&ids), &Choose::default())?;
        let best = self.chosen(pending).await?.top.first().map_or(f32::NAN, |top| top.1);
        let expected = at_once[at_once.len() - v..].iter().copied().fold(f32::MIN, f32::max);
        Ok(worst.max(differ("the best logit on the device and on the host", best, expected)?))
    }
}

impl Engine for GpuEngine {
    type Cache = GpuCache;
    type Pending = Pending;

    fn config(&self) -> &Config {
        &self.config
    }

    fn new_cache(&self) -> GpuCache {
        self.new_cache_with(None)
    }

    async fn add_adapter(&self, number: usize, adapters: &[(&Adapter, f32)]) -> Result<()> {
        self.context.check()?;
        let make = || GpuAdapter::new(&self.maker(), &self.context, adapters);
        let made = self.context.checked("the LoRA adapter", make).await?;
        self.pipelines.compile().await?;
        self.adapters.borrow_mut().insert(number, Rc::new(made));
        Ok(())
    }

    fn free_adapter(&self, adapter: usize) {
        self.adapters.borrow_mut().remove(&adapter);
    }

    fn new_cache_with(&self, adapter: Option<usize>) -> GpuCache {
        let adapter = adapter.and_then(|number| self.adapters.borrow().get(&number).cloned());
        GpuCache::new(self.cache_shape.clone(), adapter)
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
        cache.make_room(ids.len()).await?;
        let attentions = if with_attentions { Some(self.attentions().await?) } else { None };
        let mut weights = with_attentions.then(|| Collected::new(&self.config, n_past, ids.len()));
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
            if pass.staging.is_none() && pass.attentions.is_none() {
                // the device never idles, since this piece is in its queue while the one before it is waited for
                let before = self.piece.replace(Some(self.context.work_done(pass.index)));
                if let Some(before) = before {
                    self.context.wait_for(before).await?;
                }
                cache.computed(n_past);
                continue;
            }
            if let Some(staging) = pass.staging {
                let bytes = staging.read(pass.n_bytes, pass.index.clone()).await?;
                self.without_padding(&bytes, &mut logits);
            }
            if let (Some(staging), Some(weights)) = (pass.attentions, &mut weights) {
                let n_bytes = weights.chunk_bytes(n_past, chunk.len());
                weights.add(n_past, chunk.len(), &staging.read(n_bytes, pass.index).await?);
            }
            cache.computed(cache.n_tokens());
        }
        self.context.check()?;
        Ok(Output { logits, attentions: weights.map(Collected::into_blocks) })
    }

    fn is_exact(&self) -> bool {
        true // the order of every sum is the model's alone
    }

    fn batch_pays(&self) -> bool {
        true // a small batch reads the weights once
    }

    async fn forward_batch(&self, texts: &mut [BatchRow<'_, GpuCache>]) -> Result<Vec<Output>> {
        self.run_texts(texts).await
    }

    fn chooses(&self) -> bool {
        true
    }

    fn propose(&self, cache: &mut GpuCache, ids: &[TokenId], choose: &Choose) -> Result<Option<Pending>> {
        if choose.k > MAX_K || !cache.has_room(ids.len()) {
            return Ok(None);
        }
        self.submit(cache, Input::Ids(ids), choose).map(Some)
    }

    fn propose_next(&self, cache: &mut GpuCache, last: &Pending, choose: &Choose) -> Result<Option<Pending>> {
        if !self.is_newest(last) || !cache.has_room(1) {
            return Ok(None);
        }
        self.submit(cache, Input::Chosen(last), choose).map(Some)
    }

    async fn chosen(&self, pending: Pending) -> Result<Chosen> {
        GpuEngine::chosen(self, pending).await // the method of ahead.rs, not this one
    }
}
