//! Logits to token id.
//!
//! Pure arithmetic on slices: no tensors, no clock, and no random number generator, for the randomness of a token is the
//! `coin` that the caller hands in. The steps and their order are those of transformers 5.23.0
//! (`generation/utils.py::_get_logits_processor`, `generation/logits_process.py`):
//!
//! ```text
//! logits -processors-> scores -temperature, top_k, top_p, min_p-> weights -coin-> token    with do_sample
//!                      scores ------------------ argmax ----------------> token    without
//! ```
//!
//! **The same coin gives the same token.** `exp` is computed here and not by the platform's libm, so the mapping from
//! coin to token is the same natively and in wasm. It stays the same within a minor release of this crate. With `top_k`
//! or `top_p` the coin walks from the most likely token down (ties: lower id first); without them it walks in id order,
//! which needs no sorting.

mod draw;
mod inspect;
mod logits;
mod params;
mod processors;

pub use draw::Sampler;
pub use logits::{argmax, entropy, log_prob, rank, top_logprobs};
pub use params::SamplingParams;
