//! The trait of the kernels, wherever they run.

use crate::engine::{Output, Rows};
use crate::error::Result;
use crate::token::TokenId;

/// A text in a pass.
#[derive(Debug)]
pub struct Text<'a> {
    /// The number of its cache.
    pub cache: usize,
    /// Its new tokens.
    pub ids: &'a [TokenId],
    /// Which of their logits are wanted.
    pub rows: Rows,
}

/// The kernels with the weights of one model. They own the caches, which the engine knows by number.
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
    /// Bytes of a cache's keys and values, of which it may share some with its copies.
    fn cache_bytes(&self, cache: usize) -> usize;
    /// Starts a pass over ids that are in the vocabulary and fit the context window. A pass under way is abandoned.
    /// Attention weights can be had for a single text.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`], [`crate::Error::InvalidState`] if a cache has been freed.
    fn begin(&self, texts: &[Text], with_attentions: bool) -> Result<()>;
    /// Continues the pass for a few milliseconds. → an output for each text; `None` if it is not done yet
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn advance(&self) -> Result<Option<Vec<Output>>>;
    /// Lets the page handle its events.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if one of them cancels the pass.
    async fn pause(&self) -> Result<()>;
}
