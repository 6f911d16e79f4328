//! An engine may choose the next token itself and continue with it before the host has read it.

use crate::token::TokenId;

/// How the device chooses the next token from the newest token's logits; the default is greedy.
///
/// This covers what can be decided from the `k` best logits, and draws from the whole vocabulary. Penalties, and a `top_p`
/// without `top_k`, need the host.
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
    /// Uniform in [0, 1); walks from the most likely down, or by id through the whole vocabulary.
    pub coin: f32,
    /// Whether it draws from the whole vocabulary: `top_k`, `top_p` and `min_p` do not count, and `k` is at least 3.
    pub whole: bool,
}

impl Default for Choose {
    fn default() -> Self {
        Self { k: 1, top_k: 0, do_sample: false, temperature: 1.0, top_p: 1.0, min_p: 0.0, coin: 0.0, whole: false }
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
    /// Where it was drawn from the whole vocabulary: the share of the tokens with a lower id than `id`, and with `id`.
    pub drawn: Option<(f32, f32)>,
}

impl Chosen {
    /// The token that a host with this coin draws as well, if its own sums, which are rounded otherwise, cannot differ: the
    /// coin is too far from the token's edges. Only of a draw from the whole vocabulary.
    pub fn proven(&self, coin: f64) -> Option<TokenId> {
        /// More than sums and exponentials in f32 are off by.
        const MARGIN: f64 = 1e-5;
        let (before, with) = self.drawn?;
        (coin > f64::from(before) + MARGIN && coin < f64::from(with) - MARGIN).then_some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_an_edge_is_not_proven() {
        let chosen = Chosen { id: 7, top: vec![(3, 1.0)], has_bad_logits: false, drawn: Some((0.25, 0.5)) };
        assert_eq!(chosen.proven(0.3), Some(7));
        for coin in [0.25, 0.250_005, 0.499_995, 0.5, 0.1, 0.9] {
            assert_eq!(chosen.proven(coin), None, "{coin}");
        }
        assert_eq!(Chosen { drawn: None, ..chosen }.proven(0.3), None);
    }
}
