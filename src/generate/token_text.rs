//! Single tokens as readers see them: each one's text beside its log-probability.

use serde::Serialize;

use crate::sampler;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// A token with its log-probability under the model itself, before any processing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    pub token_id: TokenId,
    /// Its text; U+FFFD where it is only a part of a character.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// The `n` most likely tokens with their text. logits: `[V]`
pub(crate) fn named_logprobs(tokenizer: &Tokenizer, logits: &[f32], n: usize) -> Vec<TokenLogprob> {
    sampler::top_logprobs(logits, n)
        .into_iter()
        .map(|(token_id, logprob)| TokenLogprob { token_id, text: tokenizer.piece_text(token_id), logprob })
        .collect()
}
