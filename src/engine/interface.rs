//! The trait that every engine implements, so that each can be held against the reference.

pub use gpt2_kernels::Rows;

use super::propose::{Choose, Chosen};
use crate::adapter::Adapter;
use crate::checkpoint::Config;
use crate::error::{Error, Result};
use crate::token::TokenId;

/// Keys and values of the tokens so far, wherever the engine keeps them.
pub trait Cache: Clone {
    /// How many tokens it holds.
    fn n_tokens(&self) -> usize;
    /// Forgets all but the first `n_tokens`.
    fn truncate(&mut self, n_tokens: usize);
    /// Bytes of memory that it takes.
    fn n_bytes(&self) -> usize;
    /// How many of these tokens are known to be computed. On a device that works on while the host goes on they may be
    /// fewer.
    fn n_computed(&self) -> usize {
        self.n_tokens()
    }
}

/// What [`Engine::forward`] computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Logits, row-major [rows, V] for the rows asked for.
    pub logits: Vec<f32>,
    /// Attention weights, if asked for: one row-major [H, T, S] per block.
    pub attentions: Option<Vec<Vec<f32>>>,
}

/// One text's share of a pass over several.
#[derive(Debug)]
pub struct BatchRow<'a, C> {
    /// Its keys and values so far.
    pub cache: &'a mut C,
    /// Its new tokens, T ≥ 1.
    pub ids: &'a [TokenId],
    /// Which of their logits are wanted.
    pub rows: Rows,
}

/// An engine: a model in a device's memory, and the way to run it.
///
/// Prefill and decode are the same call: T = the prompt's tokens, or T = 1. For every way of cutting a prompt in two,
/// `forward(a)` then `forward(b)` leaves the cache and gives the logits of `forward(a + b)`.
#[allow(async_fn_in_trait)] // nobody needs these futures to be Send: a page has one thread
pub trait Engine {
    /// The engine's KV cache.
    type Cache: Cache;
    /// A pass whose choice has not been read yet; `Infallible` for an engine that only gives logits.
    type Pending;

    /// The model's hyperparameters.
    fn config(&self) -> &Config;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// Takes the sum of adapters, each with its weight, under a number that none of this engine's has had.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::GpuOutOfMemory`], after which all is as before; [`Error::InvalidOption`] if the
    /// engine computes no adapters.
    async fn add_adapter(&self, _number: usize, _adapters: &[(&Adapter, f32)]) -> Result<()> {
        Err(Error::invalid_option("adapter", "none on this device", "one"))
    }

    /// Gives an adapter up; caches that were made with it keep it.
    fn free_adapter(&self, _adapter: usize) {}

    /// An empty cache of a text that is computed with an adapter of this engine: what it holds must not be mixed with
    /// what another adapter computes.
    fn new_cache_with(&self, adapter: Option<usize>) -> Self::Cache {
        debug_assert_eq!(adapter, None, "an engine that takes no adapter is asked for none");
        self.new_cache()
    }

    /// Runs `ids` (T ≥ 1) after what `cache` holds and appends their keys and values to it.
    ///
    /// With [`Rows::None`] it may return while the last piece of work is still under way ([`Cache::n_computed`] tells
    /// what is done), but never leaves more than one behind.
    ///
    /// # Errors
    /// [`Error::ContextWindow`] if cache and ids together do not fit, [`Error::DeviceLost`] if the device fails,
    /// [`Error::OutOfMemory`] or [`Error::GpuOutOfMemory`] if there is no room for them: the cache is as before then.
    async fn forward(
        &self,
        cache: &mut Self::Cache,
        ids: &[TokenId],
        rows: Rows,
        with_attentions: bool,
    ) -> Result<Output>;

    /// Whether a token's logits have the same bits however its text is cut into passes, so that a prompt may be cut
    /// anywhere, and guesses may run beside the newest token, without a trace in the text.
    fn is_exact(&self) -> bool {
        false
    }

    /// Whether [`Engine::forward_batch`] takes clearly less time than one text after the other.
    fn batch_pays(&self) -> bool {
        false
    }

    /// Runs the new tokens of several texts in one pass. → an [`Output`] (without attentions) for each, in their order.
    /// Each text's bits are those of [`Engine::forward`] alone.
    ///
    /// # Errors
    /// As [`Engine::forward`], for any of the texts; every cache is as before then.
    async fn forward_batch(&self, texts: &mut [BatchRow<'_, Self::Cache>]) -> Result<Vec<Output>> {
        let n_before: Vec<usize> = texts.iter().map(|text| text.cache.n_tokens()).collect();
        let mut outputs = Vec::with_capacity(texts.len());
        for i in 0..texts.len() {
            let text = &mut texts[i];
            match self.forward(text.cache, text.ids, text.rows, false).await {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    for (text, n_tokens) in texts[..i].iter_mut().zip(n_before) {
                        text.cache.truncate(n_tokens);
                    }
                    return Err(error);
                }
            }
        }
        Ok(outputs)
    }

    /// Whether it can choose the next token itself ([`Engine::propose`]).
    fn chooses(&self) -> bool {
        false
    }

    /// Runs `ids` as [`Engine::forward`] does, but chooses the next token on the device and does not wait for it.
    /// `None` if the engine cannot choose in this way, or has to make room first; it has done nothing then.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    fn propose(&self, _cache: &mut Self::Cache, _ids: &[TokenId], _choose: &Choose) -> Result<Option<Self::Pending>> {
        Ok(None)
    }

    /// Runs the token that `last` chose, without knowing it, and chooses the one after it. `None` if another pass has
    /// overwritten that choice, or the engine has to make room first; it has done nothing then.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    fn propose_next(
        &self,
        _cache: &mut Self::Cache,
        _last: &Self::Pending,
        _choose: &Choose,
    ) -> Result<Option<Self::Pending>> {
        Ok(None)
    }

    /// Waits for a pass. → what it chose
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or whatever the device has reported by then.
    async fn chosen(&self, _pending: Self::Pending) -> Result<Chosen> {
        Err(Error::InvalidState("this engine chooses nothing".into()))
    }
}

/// The bounds that every engine checks before it touches memory.
///
/// # Errors
/// [`Error::ContextWindow`] or, for an id that the vocabulary does not have, [`Error::InvalidOption`].
pub fn check_bounds(config: &Config, n_cached: usize, ids: &[TokenId]) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::invalid_option("prompt", "at least one token", "none"));
    }
    let n_tokens = n_cached + ids.len();
    if n_tokens > config.n_positions {
        return Err(Error::ContextWindow { n_ctx: config.n_positions, found: n_tokens.to_string() });
    }
    check_ids(config, ids)
}

/// # Errors
/// [`Error::InvalidOption`] for an id that the vocabulary does not have.
pub fn check_ids(config: &Config, ids: &[TokenId]) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        Some(id) => {
            Err(Error::invalid_option("prompt", format!("token ids below {}", config.vocab_size), id.to_string()))
        }
        None => Ok(()),
    }
}
