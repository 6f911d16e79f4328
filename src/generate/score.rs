//! How likely a text is under the model: log-probability and rank of each of its tokens.

use std::rc::Rc;

use serde::Serialize;

use super::token_text::{TokenLogprob, named_logprobs};
use crate::engine::{Cache, Engine, Rows};
use crate::error::{Error, Result};
use crate::sampler;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// How many alternatives each token comes with.
const N_TOP: usize = 5;

/// One token of a scored text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredToken {
    /// The token.
    pub id: TokenId,
    /// Its text; U+FFFD where it is only a part of a character.
    pub text: String,
    /// Natural logarithm of its probability; none for the first token, which nothing predicts.
    pub logprob: Option<f32>,
    /// How many tokens were more likely; none for the first.
    pub rank: Option<usize>,
    /// The most likely tokens at its place.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A scored text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Its tokens, in order.
    pub tokens: Vec<ScoredToken>,
    /// Mean negative log-probability, nats per predicted token; 0 for a text of one token.
    pub nll: f64,
    /// exp(nll)
    pub perplexity: f64,
}

/// Scores a text piece by piece.
pub struct Scorer<E: Engine> {
    engine: Rc<E>,
    tokenizer: Rc<Tokenizer>,
    ids: Vec<TokenId>,
    cache: E::Cache,
    /// The next id to be run; the cache ends right before it.
    next: usize,
    tokens: Vec<ScoredToken>,
}

impl<E: Engine> Scorer<E> {
    /// Begins with a text of at least one token.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an empty text.
    pub fn new(engine: Rc<E>, tokenizer: Rc<Tokenizer>, ids: Vec<TokenId>) -> Result<Self> {
        let Some(&first) = ids.first() else {
            return Err(Error::invalid_option("text", "at least one token", "none"));
        };
        crate::engine::check_ids(engine.config(), &ids)?;
        let text = tokenizer.piece_text(first);
        let tokens = vec![ScoredToken { id: first, text, logprob: None, rank: None, top_logprobs: Vec::new() }];
        let cache = engine.new_cache();
        Ok(Self { engine, tokenizer, ids, cache, next: 0, tokens })
    }

    /// Scores the next tokens, at most `max_tokens` (logits of [32, 50257] take 6.4 MB). A text longer than the context
    /// window slides through it by halves, so that each token is predicted from at least half a window.
    /// → (tokens scored so far, of so many)
    ///
    /// # Errors
    /// [`Error::DeviceLost`] if the device fails.
    pub async fn step(&mut self, max_tokens: usize) -> Result<(usize, usize)> {
        let max_tokens = max_tokens.max(1);
        let n_ctx = self.engine.config().n_positions;
        let n_total = self.ids.len();
        if self.next + 1 < n_total {
            if self.cache.n_tokens() == n_ctx {
                self.cache.truncate(0);
                for ids in self.ids[self.next - n_ctx / 2..self.next].chunks(max_tokens) {
                    self.engine.forward(&mut self.cache, ids, Rows::None, false).await?;
                }
            }
            let n_new = max_tokens.min(n_total - 1 - self.next).min(n_ctx - self.cache.n_tokens());
            let ids = &self.ids[self.next..self.next + n_new];
            let output = self.engine.forward(&mut self.cache, ids, Rows::All, false).await?;
            let targets = &self.ids[self.next + 1..];
            for (logits, &id) in output.logits.chunks_exact(self.engine.config().vocab_size).zip(targets) {
                self.tokens.push(ScoredToken {
                    id,
                    text: self.tokenizer.piece_text(id),
                    logprob: Some(sampler::log_prob(logits, id)),
                    rank: Some(sampler::rank(logits, id)),
                    top_logprobs: named_logprobs(&self.tokenizer, logits, N_TOP),
                });
            }
            self.next += n_new;
        }
        Ok((self.tokens.len(), n_total))
    }

    /// The score, once every token has one.
    pub fn finish(self) -> Score {
        let logprobs: Vec<f64> = self.tokens.iter().filter_map(|t| t.logprob).map(f64::from).collect();
        let nll = -logprobs.iter().sum::<f64>() / logprobs.len().max(1) as f64;
        Score { tokens: self.tokens, nll: nll + 0.0, perplexity: nll.exp() }
    }
}
