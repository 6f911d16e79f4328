//! What a generation tells with each step.

use serde::Serialize;

use super::token_text::TokenLogprob;
use crate::token::TokenId;

/// What one new token adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chunk {
    /// Text that is complete with this token; may be empty, never ends inside a character.
    pub text: String,
    /// The token.
    pub token_id: TokenId,
    /// Its log-probability under the model, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
    /// The most likely tokens, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<TokenLogprob>>,
    /// Attention of the position that predicted this token, if asked for: per block row-major [H, S].
    #[serde(skip)]
    pub attentions: Option<Vec<Vec<f32>>>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// End of text or a stop string.
    Stop,
    /// `max_new_tokens`, or the context window is full.
    Length,
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ran a part of the prompt, before the first new token.
    Prefill {
        /// Tokens that are computed by now; never fewer than the step before said.
        n_done: usize,
        /// Tokens that had to be run when the generation began: above 0, and the same in all its steps.
        n_total: usize,
    },
    /// Ran again a part of the text, between two new tokens: the window has slid, or the cache was lost.
    Refill,
    /// Chose a token; the last one says why it is the last.
    Token(Box<Chunk>, Option<FinishReason>),
}
