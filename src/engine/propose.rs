//! What an engine may do besides giving logits: choose the next token itself and go on with it before anybody has seen it.

use crate::token::TokenId;

/// How the device chooses the next token from the newest token's logits; the default is greedy.
///
/// Only what needs nothing but the `k` best logits: penalties, and sampling without `top_k`, are the host's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choose {
    /// How many of the best logits are told, at least 1.
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
    /// The next token, as the device chose it: a proposal, for rounding at an edge may differ from the host's.
    pub id: TokenId,
    /// The `k` best tokens and their logits, most likely first, ties by lower id; fewer if the vocabulary has fewer.
    pub top: Vec<(TokenId, f32)>,
    /// Whether some logit is NaN or infinite: neither `id` nor `top` means anything then.
    pub has_bad_logits: bool,
}
