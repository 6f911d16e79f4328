//! An engine may choose the next token itself and continue with it before the host has read it.

use crate::token::TokenId;

/// How the device chooses the next token from the newest token's logits; the default is greedy.
///
/// This covers what can be decided from the `k` best logits. Penalties, and sampling without `top_k`, need the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choose {
    /// How many of the best logits are reported, at least 1.
    pub k: usize,
    /// How many of these it draws from; 0 is all of them.
    pub top_k: usize,
    /// Whether to draw; `false` takes the best one, the lowest id among equals.
    pub do_sample: bool,
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// As in [`crate::sampler::SamplingParams`], a share of those that it draws from; 1 is off.
    pub top_p: f32,
    /// As in [`crate::sampler::SamplingParams`]; 0 is off.
    pub min_p: f32,
    /// Uniform in [0, 1); walks from the most likely down.
    pub coin: f32,
}

impl Default for Choose {
    fn default() -> Self {
        Self { k: 1, top_k: 0, do_sample: false, temperature: 1.0, top_p: 1.0, min_p: 0.0, coin: 0.0 }
    }
}

/// What a pass chose, and from what.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The token that the device chose. It is a proposal: where rounding decides, the host may choose another.
    pub id: TokenId,
    /// The `k` best tokens and their logits, most likely first, ties by lower id; fewer if the vocabulary has fewer.
    pub top: Vec<(TokenId, f32)>,
    /// Whether a logit is NaN or infinite. Then `id` and `top` are meaningless.
    pub has_bad_logits: bool,
}
