//! The trait of the kernels, wherever they run.

use crate::engine::{Output, Rows};
use crate::error::Result;
use crate::token::TokenId;

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
    /// Starts a pass over ids that are in the vocabulary and fit the context window. A pass under way is abandoned.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]
    fn begin(&self, cache: usize, ids: &[TokenId], rows: Rows, with_attentions: bool) -> Result<()>;
    /// Continues the pass for a few milliseconds. → its output; `None` if it is not done yet
    ///
    /// # Errors
    /// [`crate::Error::InvalidState`] if the cache has been freed.
    fn advance(&self) -> Result<Option<Output>>;
    /// Lets the page handle its events.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if one of them cancels the pass.
    async fn pause(&self) -> Result<()>;
}
