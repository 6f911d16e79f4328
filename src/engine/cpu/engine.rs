//! The engine's trait on the CPU kernels.

use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use super::kernels::{Kernels, Text};
use crate::adapter::Adapter;
use crate::checkpoint::Config;
use crate::engine::{BatchRow, Cache, Engine, Output, Rows, check_bounds};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// The CPU engine.
pub struct CpuEngine<K> {
    config: Config,
    kernels: Rc<K>,
}

impl<K: Kernels> CpuEngine<K> {
    /// The engine of a model whose weights the kernels hold.
    pub fn new(config: Config, kernels: Rc<K>) -> Self {
        Self { config, kernels }
    }

    /// The kernels that run it.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }
}

/// A cache in the kernels' memory, freed with this.
pub struct CpuCache<K: Kernels> {
    kernels: Rc<K>,
    number: usize,
    n_tokens: usize,
    adapter: Option<usize>,
}

impl<K: Kernels> fmt::Debug for CpuCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("CpuCache").field("number", &self.number).field("n_tokens", &self.n_tokens).finish()
    }
}

impl<K: Kernels> Clone for CpuCache<K> {
    /// A copy, which shares the keys and values with this one. Without memory for it, it is an empty cache: its text is
    /// then computed again, with the same result.
    fn clone(&self) -> Self {
        self.kernels.truncate_cache(self.number, self.n_tokens); // see `CpuEngine::run`
        let (number, n_tokens) = match self.kernels.clone_cache(self.number) {
            Some(number) => (number, self.n_tokens),
            None => (self.kernels.new_cache(self.adapter), 0),
        };
        Self { kernels: self.kernels.clone(), number, n_tokens, adapter: self.adapter }
    }
}

impl<K: Kernels> Drop for CpuCache<K> {
    fn drop(&mut self) {
        self.kernels.free_cache(self.number);
    }
}

impl<K: Kernels> Cache for CpuCache<K> {
    fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    fn truncate(&mut self, n_tokens: usize) {
        self.n_tokens = self.n_tokens.min(n_tokens);
        self.kernels.truncate_cache(self.number, n_tokens);
    }

    fn n_bytes(&self) -> usize {
        self.kernels.cache_bytes(self.number)
    }
}

impl<K: Kernels> CpuEngine<K> {
    /// One pass over several texts.
    async fn run(&self, texts: &mut [BatchRow<'_, CpuCache<K>>], with_attentions: bool) -> Result<Vec<Output>> {
        for BatchRow { cache, ids, .. } in &*texts {
            check_bounds(&self.config, cache.n_tokens, ids)?;
            // an earlier call may have been cancelled after some of its ids
            self.kernels.truncate_cache(cache.number, cache.n_tokens);
        }
        let plan: Vec<_> = texts.iter().map(|t| Text { cache: t.cache.number, ids: t.ids, rows: t.rows }).collect();
        self.kernels.begin(&plan, with_attentions)?;
        loop {
            if let Some(outputs) = self.kernels.advance()? {
                texts.iter_mut().for_each(|text| text.cache.n_tokens += text.ids.len());
                return Ok(outputs);
            }
            self.kernels.pause().await?;
        }
    }
}

impl<K: Kernels> Engine for CpuEngine<K> {
    type Cache = CpuCache<K>;
    type Pending = Infallible;

    fn config(&self) -> &Config {
        &self.config
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn batch_pays(&self) -> bool {
        true
    }

    fn new_cache(&self) -> CpuCache<K> {
        self.new_cache_with(None)
    }

    async fn add_adapter(&self, number: usize, adapters: &[(&Adapter, f32)]) -> Result<()> {
        if self.kernels.add_adapter(number, adapters) {
            return Ok(());
        }
        let n_bytes = adapters.iter().map(|(adapter, _)| 4 * adapter.n_params() as u64).sum();
        Err(Error::OutOfMemory { what: "the adapter".into(), n_bytes })
    }

    fn free_adapter(&self, adapter: usize) {
        self.kernels.free_adapter(adapter);
    }

    fn new_cache_with(&self, adapter: Option<usize>) -> CpuCache<K> {
        let number = self.kernels.new_cache(adapter);
        CpuCache { kernels: self.kernels.clone(), number, n_tokens: 0, adapter }
    }

    async fn forward(
        &self,
        cache: &mut CpuCache<K>,
        ids: &[TokenId],
        rows: Rows,
        with_attentions: bool,
    ) -> Result<Output> {
        let outputs = self.run(&mut [BatchRow { cache, ids, rows }], with_attentions).await?;
        outputs.into_iter().next().ok_or_else(|| Error::InvalidState("the kernels gave no output for a text".into()))
    }

    async fn forward_batch(&self, texts: &mut [BatchRow<'_, CpuCache<K>>]) -> Result<Vec<Output>> {
        if texts.is_empty() { Ok(Vec::new()) } else { self.run(texts, false).await }
    }
}
