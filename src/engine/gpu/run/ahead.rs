//! Decoding ahead of the host: the device chooses the next token and feeds it to the next pass itself, so that a pass
//! can be submitted before the id of the token before it has been read back.
//!
//! ```text
//! host    submit 1   submit 2   chosen(1)  submit 3   chosen(2) …
//! device  | pass 1 | pass 2 | pass 3 | …                               never idle while the host waits
//! ```
//!
//! What the device chooses is a proposal. [`Chosen`] has the best `k` logits as well, in at most 1 KB: a host that
//! samples by its own rule compares, and where the two differ (rounding at an edge), or where the text ends, it takes
//! the passes ahead back with [`Cache::truncate`](crate::engine::Cache::truncate) and goes on with [`Input::Ids`].

use super::pass::{End, GpuEngine, Ids, Submitted};
use crate::engine::gpu::limits::MAX_K;
use crate::engine::gpu::memory::GpuCache;
use crate::engine::{Cache, Choose, Chosen, check_bounds};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// The new tokens of a pass.
pub enum Input<'a> {
    /// These; a prompt, or a token that the host chose.
    Ids(&'a [TokenId]),
    /// The one that this pass chose, whatever it is. No other pass of the engine may have been submitted since.
    Chosen(&'a Pending),
}

/// A pass whose choice has not been read back yet.
pub struct Pending {
    pass: Submitted,
    k: usize,
    /// The value of `n_ids_written` right after this pass. As long as it is the same, this pass's choice is on the
    /// device.
    number: u64,
}

impl GpuEngine {
    /// Makes room for `n_new` more tokens in a cache, as [`Self::submit`] needs it.
    ///
    /// # Errors
    /// [`Error::GpuOutOfMemory`], after which the cache is as it was; [`Error::ContextWindow`]; and what the device has
    /// reported.
    pub async fn make_room(&self, cache: &mut GpuCache, n_new: usize) -> Result<()> {
        self.check(cache)?;
        let (n_ctx, n_tokens) = (self.config.n_positions, cache.n_tokens() + n_new);
        if n_tokens > n_ctx {
            return Err(Error::ContextWindow { n_ctx, found: n_tokens.to_string() });
        }
        cache.make_room(n_new).await
    }

    /// Submits a pass of `input` after what `cache` holds, and adds the input to the cache. Does not wait.
    ///
    /// # Errors
    /// As [`Engine::forward`](crate::engine::Engine::forward); [`Error::InvalidState`] if the cache has no room
    /// ([`Self::make_room`]) or if `input` is a choice that is not on the device any more (another text was run in
    /// between: read it and give the id), [`Error::InvalidOption`] for `k` out of range or a temperature that is not
    /// above 0.
    pub fn submit(&self, cache: &mut GpuCache, input: Input, choose: &Choose) -> Result<Pending> {
        if choose.k == 0 || choose.k > MAX_K {
            return Err(Error::invalid_option("k", format!("1 to {MAX_K}"), choose.k.to_string()));
        }
        if choose.whole && choose.k < 3 {
            return Err(Error::invalid_option("k", "at least 3 for the whole vocabulary", choose.k.to_string()));
        }
        if choose.temperature.is_nan() || choose.temperature <= 0.0 {
            return Err(Error::invalid_option("temperature", "a number above 0", choose.temperature.to_string()));
        }
        let end = End::Choose(*choose);
        let pass = match input {
            Input::Chosen(last) => {
                if !self.is_newest(last) {
                    return Err(Error::InvalidState(
                        "this choice is not on the device any more: another pass came after it".into(),
                    ));
                }
                check_bounds(&self.config, cache.n_tokens(), &[0])?;
                self.check_room(cache, 1)?;
                self.submit_pass(cache, Ids::Device, 1, end, None)
            }
            Input::Ids(ids) => {
                check_bounds(&self.config, cache.n_tokens(), ids)?;
                self.check_room(cache, ids.len())?;
                let n_last = match ids.len() % self.model.widths.max_chunk {
                    0 => self.model.widths.max_chunk,
                    n => n,
                };
                let (first, last) = ids.split_at(ids.len() - n_last);
                for chunk in first.chunks(self.model.widths.max_chunk) {
                    self.submit_pass(cache, Ids::Host(chunk), chunk.len(), End::Nothing, None);
                }
                self.submit_pass(cache, Ids::Host(last), last.len(), end, None)
            }
        };
        Ok(Pending { pass, k: choose.k, number: self.n_ids_written.get() })
    }

    fn check_room(&self, cache: &GpuCache, n_new: usize) -> Result<()> {
        self.check(cache)?;
        match cache.has_room(n_new) {
            true => Ok(()),
            false => Err(Error::InvalidState(format!("a pass of {n_new} tokens that no room was made for"))),
        }
    }

    /// Whether a pass's choice is still on the device.
    pub(crate) fn is_newest(&self, pending: &Pending) -> bool {
        pending.number == self.n_ids_written.get()
    }

    /// Waits for a pass. → what it chose
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or whatever the device has reported by then.
    pub async fn chosen(&self, pending: Pending) -> Result<Chosen> {
        let Submitted { staging, n_bytes, index, .. } = pending.pass;
        let Some(staging) = staging else {
            return Err(Error::InvalidState("a pass that chose nothing".into()));
        };
        let bytes = staging.read(n_bytes, index).await?;
        let words: Vec<u32> = bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let pairs = words[4..].as_chunks::<2>().0;
        // of a draw from the whole vocabulary the second and the third pair tell its shares
        let is_whole = words[3] != 0;
        let drawn = is_whole.then(|| (f32::from_bits(pairs[1][1]), f32::from_bits(pairs[2][1])));
        let n_best = if is_whole { 1 } else { pending.k };
        Ok(Chosen {
            id: words[0],
            has_bad_logits: words[1] != 0,
            drawn,
            top: pairs
                .iter()
                .take(n_best)
                .filter(|[id, _]| *id != TokenId::MAX) // the vocabulary had no more
                .map(|&[id, bits]| (id, f32::from_bits(bits)))
                .collect(),
        })
    }
}
