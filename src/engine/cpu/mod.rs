//! The CPU engine: packed weights and the SIMD kernels of `kernels/`, wherever these run.
//!
//! In a page they are a WebAssembly module of their own, with its own memory and perhaps several threads; natively they
//! are linked in. Both are [`Kernels`].

mod linked;

use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

pub use linked::Linked;

use super::{Cache, Engine, Output, Rows, check_bounds};
use crate::config::Config;
use crate::error::Result;
use crate::tokenizer::TokenId;

/// The kernels with one model's weights. Caches are theirs, and known by number.
#[allow(async_fn_in_trait)] // as for `Engine`
pub trait Kernels {
    /// An empty cache.
    fn new_cache(&self) -> usize;
    /// A copy; `None` if there is no memory for it.
    fn clone_cache(&self, cache: usize) -> Option<usize>;
    /// Forgets all but the first `n_tokens`.
    fn truncate_cache(&self, cache: usize, n_tokens: usize);
    /// Frees it.
    fn free_cache(&self, cache: usize);
    /// Begins to run ids that are in the vocabulary and fit the context window; whatever was begun before is left.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]
    fn begin(&self, cache: usize, ids: &[TokenId], rows: Rows, with_attentions: bool) -> Result<()>;
    /// Goes on with it for as long as a page can stand still. → what it gives, `None` if there is more to do
    ///
    /// # Errors
    /// [`crate::Error::InvalidState`] if the cache has been freed.
    fn advance(&self) -> Result<Option<Output>>;
    /// Lets the page do something else.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if what it does is to end this.
    async fn pause(&self) -> Result<()>;
}

/// The CPU engine.
pub struct Cpu<K> {
    config: Config,
    kernels: Rc<K>,
}

impl<K: Kernels> Cpu<K> {
    /// The engine of a model whose weights the kernels hold.
    pub fn new(config: Config, kernels: Rc<K>) -> Self {
        Self { config, kernels }
    }

    /// What runs it.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }
}

/// A cache in the kernels' memory, freed with this.
pub struct CpuCache<K: Kernels> {
    kernels: Rc<K>,
    number: usize,
    n_tokens: usize,
}

impl<K: Kernels> fmt::Debug for CpuCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("CpuCache").field("number", &self.number).field("n_tokens", &self.n_tokens).finish()
    }
}

impl<K: Kernels> Clone for CpuCache<K> {
    /// A copy; an empty cache where there is no memory for one, which costs time and changes nothing.
    fn clone(&self) -> Self {
        self.kernels.truncate_cache(self.number, self.n_tokens); // see `Cpu::forward`
        let (number, n_tokens) = match self.kernels.clone_cache(self.number) {
            Some(number) => (number, self.n_tokens),
            None => (self.kernels.new_cache(), 0),
        };
        Self { kernels: self.kernels.clone(), number, n_tokens }
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
}

impl<K: Kernels> Engine for Cpu<K> {
    type Cache = CpuCache<K>;
    type Pending = Infallible;

    fn config(&self) -> &Config {
        &self.config
    }

    fn new_cache(&self) -> CpuCache<K> {
        CpuCache { kernels: self.kernels.clone(), number: self.kernels.new_cache(), n_tokens: 0 }
    }

    async fn forward(
        &self,
        cache: &mut CpuCache<K>,
        ids: &[TokenId],
        rows: Rows,
        with_attentions: bool,
    ) -> Result<Output> {
        check_bounds(&self.config, cache.n_tokens, ids)?;
        // an earlier call may have been left in the midst of its ids
        self.kernels.truncate_cache(cache.number, cache.n_tokens);
        self.kernels.begin(cache.number, ids, rows, with_attentions)?;
        loop {
            if let Some(output) = self.kernels.advance()? {
                cache.n_tokens += ids.len();
                return Ok(output);
            }
            self.kernels.pause().await?;
        }
    }
}
