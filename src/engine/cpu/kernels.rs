//! What the CPU engine asks of the kernels, wherever these run.

use crate::engine::{Output, Rows};
use crate::error::Result;
use crate::token::TokenId;

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
