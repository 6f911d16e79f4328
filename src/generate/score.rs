//! How likely a text is under the model: log-probability and rank of each of its tokens.

use std::rc::Rc;

use serde::Serialize;

use super::token_text::{TokenLogprob, named_logprobs};
use crate::engine::{BatchRow, Cache, Engine, Output, Rows};
use crate::error::{Error, Result};
use crate::sampler;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// How many alternatives each token comes with.
const N_TOP: usize = 10;

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
    /// How undecided the model was at its place, in nats: the entropy of all probabilities there; none for the first.
    pub entropy: Option<f32>,
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
    /// What it is computed with: the number of an adapter of the engine.
    adapter: Option<usize>,
    /// Holds the tokens from `window_start` on.
    cache: E::Cache,
    window_start: usize,
    /// The first token that has not been run for its score. Before it the window may have to be filled again.
    next: usize,
    /// How many tokens the pass runs that comes next, or is running.
    n_pass: usize,
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
        let (logprob, rank, entropy) = (None, None, None); // nothing stands before it
        let tokens = vec![ScoredToken { id: first, text, logprob, rank, entropy, top_logprobs: Vec::new() }];
        let cache = engine.new_cache();
        Ok(Self { engine, tokenizer, ids, adapter: None, cache, window_start: 0, next: 0, n_pass: 0, tokens })
    }

    /// The same text, none of which is scored yet, computed with an adapter of the engine.
    pub fn with_adapter(mut self, adapter: Option<usize>) -> Self {
        self.cache = self.engine.new_cache_with(adapter);
        self.adapter = adapter;
        self
    }

    /// Scores the next tokens, at most `max_tokens` (logits of [32, 50257] take 6.4 MB). A text longer than the context
    /// window slides through it by halves, so that each token is predicted from at least half a window.
    /// → (tokens scored so far, of so many)
    ///
    /// # Errors
    /// [`Error::DeviceLost`] if the device fails, after which the step can be taken again.
    pub async fn step(&mut self, max_tokens: usize) -> Result<(usize, usize)> {
        let n_before = self.progress();
        while !self.is_done() && self.progress() == n_before {
            self.plan(max_tokens);
            let engine = self.engine.clone();
            let row = self.row();
            let output = engine.forward(row.cache, row.ids, row.rows, false).await?;
            self.take(&output);
        }
        Ok(self.progress())
    }

    /// (tokens scored so far, of so many)
    pub fn progress(&self) -> (usize, usize) {
        (self.tokens.len(), self.ids.len())
    }

    /// Whether every token has its score.
    pub fn is_done(&self) -> bool {
        self.tokens.len() == self.ids.len()
    }

    /// Bytes of its cache.
    pub fn cache_bytes(&self) -> usize {
        self.cache.n_bytes()
    }

    /// Takes what is left of the text to another engine with the same model.
    pub fn move_to(&mut self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        self.cache = engine.new_cache_with(self.adapter);
        (self.engine, self.tokenizer) = (engine, tokenizer);
    }

    /// Decides what the next pass runs, at most `max_tokens`. → how many that is; the text must not be done
    pub(super) fn plan(&mut self, max_tokens: usize) -> usize {
        let n_ctx = self.engine.config().n_positions;
        if self.cache.n_tokens() == n_ctx {
            self.cache.truncate(0);
            self.window_start = self.next - n_ctx / 2;
        }
        let from = self.window_start + self.cache.n_tokens();
        let to = if from < self.next { self.next } else { self.ids.len() - 1 };
        self.n_pass = max_tokens.max(1).min(to - from).min(n_ctx - self.cache.n_tokens());
        self.n_pass
    }

    /// The planned pass.
    pub(super) fn row(&mut self) -> BatchRow<'_, E::Cache> {
        let from = self.window_start + self.cache.n_tokens();
        let rows = if from < self.next { Rows::None } else { Rows::All };
        BatchRow { cache: &mut self.cache, ids: &self.ids[from..from + self.n_pass], rows }
    }

    /// Takes what the planned pass has given.
    pub(super) fn take(&mut self, output: &Output) {
        let targets = self.ids.iter().skip(self.next + 1);
        let rows = output.logits.chunks_exact(self.engine.config().vocab_size);
        for (logits, &id) in rows.zip(targets) {
            self.tokens.push(ScoredToken {
                id,
                text: self.tokenizer.piece_text(id),
                logprob: Some(sampler::log_prob(logits, id)),
                rank: Some(sampler::rank(logits, id)),
                entropy: Some(sampler::entropy(logits)),
                top_logprobs: named_logprobs(&self.tokenizer, logits, N_TOP),
            });
        }
        self.next = self.tokens.len() - 1;
    }

    /// The score, once every token has one.
    pub fn finish(self) -> Score {
        let logprobs: Vec<f64> = self.tokens.iter().filter_map(|t| t.logprob).map(f64::from).collect();
        let nll = -logprobs.iter().sum::<f64>() / logprobs.len().max(1) as f64;
        Score { tokens: self.tokens, nll: nll + 0.0, perplexity: nll.exp() }
    }
}
