//! Whichever engine the device asks for, behind one type: a page chooses at run time.

use crate::adapter::Adapter;
use crate::checkpoint::Config;
use crate::engine::cpu::{CpuCache, CpuEngine, Kernels};
use crate::engine::gpu::{GpuCache, GpuEngine, Pending};
use crate::engine::{BatchRow, Cache, Choose, Chosen, Engine, Output, Rows};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// One of the engines; there is one in a page, so their sizes are no matter.
#[allow(clippy::large_enum_variant)]
pub enum AnyEngine<K> {
    /// The kernels.
    Cpu(CpuEngine<K>),
    /// WGSL on WebGPU.
    Gpu(GpuEngine),
}

/// A cache of that engine.
#[derive(Debug)]
pub enum AnyEngineCache<K: Kernels> {
    /// The kernels'.
    Cpu(CpuCache<K>),
    /// The GPU's.
    Gpu(GpuCache),
}

impl<K: Kernels> AnyEngineCache<K> {
    fn cpu(&mut self) -> Option<&mut CpuCache<K>> {
        if let Self::Cpu(cache) = self { Some(cache) } else { None }
    }

    fn gpu(&mut self) -> Option<&mut GpuCache> {
        if let Self::Gpu(cache) = self { Some(cache) } else { None }
    }
}

impl<K: Kernels> Clone for AnyEngineCache<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Cpu(cache) => Self::Cpu(cache.clone()),
            Self::Gpu(cache) => Self::Gpu(cache.clone()),
        }
    }
}

impl<K: Kernels> Cache for AnyEngineCache<K> {
    fn n_tokens(&self) -> usize {
        match self {
            Self::Cpu(cache) => cache.n_tokens(),
            Self::Gpu(cache) => cache.n_tokens(),
        }
    }

    fn truncate(&mut self, n_tokens: usize) {
        match self {
            Self::Cpu(cache) => cache.truncate(n_tokens),
            Self::Gpu(cache) => cache.truncate(n_tokens),
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Cpu(cache) => cache.n_bytes(),
            Self::Gpu(cache) => cache.n_bytes(),
        }
    }

    fn n_computed(&self) -> usize {
        match self {
            Self::Cpu(cache) => cache.n_computed(),
            Self::Gpu(cache) => cache.n_computed(),
        }
    }
}

impl<K: Kernels> Engine for AnyEngine<K> {
    type Cache = AnyEngineCache<K>;
    type Pending = Pending; // the CPU has none

    fn config(&self) -> &Config {
        match self {
            Self::Cpu(engine) => engine.config(),
            Self::Gpu(engine) => engine.config(),
        }
    }

    fn new_cache(&self) -> AnyEngineCache<K> {
        match self {
            Self::Cpu(engine) => AnyEngineCache::Cpu(engine.new_cache()),
            Self::Gpu(engine) => AnyEngineCache::Gpu(engine.new_cache()),
        }
    }

    async fn add_adapter(&self, number: usize, adapters: &[(&Adapter, f32)]) -> Result<()> {
        match self {
            Self::Cpu(engine) => engine.add_adapter(number, adapters).await,
            Self::Gpu(engine) => engine.add_adapter(number, adapters).await,
        }
    }

    fn free_adapter(&self, adapter: usize) {
        match self {
            Self::Cpu(engine) => engine.free_adapter(adapter),
            Self::Gpu(engine) => engine.free_adapter(adapter),
        }
    }

    fn new_cache_with(&self, adapter: Option<usize>) -> AnyEngineCache<K> {
        match self {
            Self::Cpu(engine) => AnyEngineCache::Cpu(engine.new_cache_with(adapter)),
            Self::Gpu(engine) => AnyEngineCache::Gpu(engine.new_cache_with(adapter)),
        }
    }

    async fn forward(
        &self,
        cache: &mut AnyEngineCache<K>,
        ids: &[TokenId],
        rows: Rows,
        with_attentions: bool,
    ) -> Result<Output> {
        match (self, cache) {
            (Self::Cpu(engine), AnyEngineCache::Cpu(cache)) => engine.forward(cache, ids, rows, with_attentions).await,
            (Self::Gpu(engine), AnyEngineCache::Gpu(cache)) => engine.forward(cache, ids, rows, with_attentions).await,
            _ => Err(foreign_cache()),
        }
    }

    fn is_exact(&self) -> bool {
        match self {
            Self::Cpu(engine) => engine.is_exact(),
            Self::Gpu(engine) => engine.is_exact(),
        }
    }

    fn batch_pays(&self) -> bool {
        match self {
            Self::Cpu(engine) => engine.batch_pays(),
            Self::Gpu(engine) => engine.batch_pays(),
        }
    }

    async fn forward_batch(&self, texts: &mut [BatchRow<'_, AnyEngineCache<K>>]) -> Result<Vec<Output>> {
        match self {
            Self::Cpu(engine) => engine.forward_batch(&mut with_caches(texts, AnyEngineCache::cpu)?).await,
            Self::Gpu(engine) => engine.forward_batch(&mut with_caches(texts, AnyEngineCache::gpu)?).await,
        }
    }

    fn chooses(&self) -> bool {
        match self {
            Self::Cpu(engine) => engine.chooses(),
            Self::Gpu(engine) => engine.chooses(),
        }
    }

    fn propose(&self, cache: &mut AnyEngineCache<K>, ids: &[TokenId], choose: &Choose) -> Result<Option<Pending>> {
        match (self, cache) {
            (Self::Gpu(engine), AnyEngineCache::Gpu(cache)) => engine.propose(cache, ids, choose),
            _ => Ok(None),
        }
    }

    fn propose_next(&self, cache: &mut AnyEngineCache<K>, last: &Pending, choose: &Choose) -> Result<Option<Pending>> {
        match (self, cache) {
            (Self::Gpu(engine), AnyEngineCache::Gpu(cache)) => engine.propose_next(cache, last, choose),
            _ => Ok(None),
        }
    }

    async fn chosen(&self, pending: Pending) -> Result<Chosen> {
        match self {
            Self::Gpu(engine) => engine.chosen(pending).await,
            Self::Cpu(_) => Err(Error::InvalidState("this pass belongs to another engine".into())),
        }
    }
}

/// The same texts with the caches that `of_engine` finds in theirs.
fn with_caches<'a, C, D: 'a>(
    texts: &'a mut [BatchRow<'_, C>],
    of_engine: impl Fn(&'a mut C) -> Option<&'a mut D>,
) -> Result<Vec<BatchRow<'a, D>>> {
    let text = |text: &'a mut BatchRow<'_, C>| {
        let cache = of_engine(&mut *text.cache).ok_or_else(foreign_cache)?;
        Ok(BatchRow { cache, ids: text.ids, rows: text.rows })
    };
    texts.iter_mut().map(text).collect()
}

fn foreign_cache() -> Error {
    Error::InvalidState("this cache belongs to another engine".into())
}
