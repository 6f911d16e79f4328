//! Logits to token id.
//!
//! Pure arithmetic on slices: no tensors, no clock, and no random number generator, for the randomness of a token is
//! the `coin` that the caller hands in. The steps and their order are those of transformers 5.23.0
//! (`generation/utils.py::_get_logits_processor`, `generation/logits_process.py`):
//!
//! ```text
//! repetition_penalty -> presence, frequency (OpenAI) -> no_repeat_ngram_size     always
//!     -> temperature -> top_k -> top_p -> min_p -> softmax -> coin               only with do_sample
//! ```
//!
//! **The same coin gives the same token.** `exp` is computed here and not by the platform's libm, so the mapping from
//! coin to token is the same natively and in wasm. It stays the same within a minor release of this crate. With `top_k`
//! or `top_p` the coin walks from the most likely token down (ties: lower id first); without them it walks in id order,
//! which needs no sorting.

mod logits;

use std::cmp::Ordering;

pub use logits::{argmax, log_prob, rank, top_logprobs};

use crate::error::Error;
use crate::token::TokenId;
use logits::{
    BLOCK, Candidate, by_score, candidates, check, exp_neg, finite_max, first_at, mass, sum, top, walk, weigh_block,
};

/// How the next token is chosen. The default is greedy, with every step neutral.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SamplingParams {
    /// `false`: the most likely token after the penalties; temperature, `top_k`, `top_p`, `min_p` and the coin are
    /// unused.
    pub do_sample: bool,
    /// Divides the logits; above 0. 1 is neutral.
    pub temperature: f32,
    /// Keeps the tokens that are at least as likely as the k-th most likely, so more than k on a tie. 0 is off.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probability reaches this, at least one; in [0, 1]. 1 is off. Where the
    /// cut falls among equal logits the lower ids stay (transformers leaves that to an unstable sort).
    pub top_p: f32,
    /// Keeps the tokens with at least this fraction of the most likely token's probability; in [0, 1]. 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of each token in prompt and output; above 0. 1 is neutral
    /// (Keskar et al. 2019, CTRL, §4.1).
    pub repetition_penalty: f32,
    /// Taken off the logit of each token generated so far, in [-2, 2]. 0 is neutral (OpenAI API reference).
    pub presence_penalty: f32,
    /// Taken off the logit once for each time the token was generated so far, in [-2, 2]. 0 is neutral (same source).
    pub frequency_penalty: f32,
    /// No sequence of this many tokens occurs twice in prompt and output. 0 is off.
    pub no_repeat_ngram_size: usize,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
        }
    }
}

impl SamplingParams {
    /// Checks every range.
    ///
    /// # Errors
    /// `invalid_option` with the first option that is out of range, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), Error> {
        let (p, above_0) = (self, f32::from_bits(1)); // the least positive number
        for (option, value, min, max, expected) in [
            ("temperature", p.temperature, above_0, f32::MAX, "a number above 0"),
            ("top_p", p.top_p, 0.0, 1.0, "a number from 0 to 1"),
            ("min_p", p.min_p, 0.0, 1.0, "a number from 0 to 1"),
            ("repetition_penalty", p.repetition_penalty, above_0, f32::MAX, "a number above 0"),
            ("presence_penalty", p.presence_penalty, -2.0, 2.0, "a number from -2 to 2"),
            ("frequency_penalty", p.frequency_penalty, -2.0, 2.0, "a number from -2 to 2"),
        ] {
            // NaN is in no range
            if !(min..=max).contains(&value) {
                return Err(Error::invalid_option(option, expected, value.to_string()));
            }
        }
        Ok(())
    }
}

/// Chooses tokens by one set of [`SamplingParams`]. It remembers nothing between tokens; what it holds is scratch
/// memory.
pub struct Sampler {
    params: SamplingParams,
    /// `[V]` the logits after the penalties; finite, or -inf for a masked token.
    scores: Vec<f32>,
    /// Most likely first; empty when the coin walks in id order.
    ranked: Vec<Candidate>,
    /// Unnormalised probabilities, the largest 1: `weights[i]` belongs to `ranked[i]`, or to token i if `ranked` is
    /// empty.
    weights: Vec<f32>,
    block_maxima: Vec<f32>,
    generated: Vec<TokenId>,
}

impl Sampler {
    /// A sampler for parameters that have passed [`SamplingParams::validate`].
    pub fn new(params: SamplingParams) -> Self {
        Self { params, scores: vec![], ranked: vec![], weights: vec![], block_maxima: vec![], generated: vec![] }
    }

    /// The next token.
    ///
    /// `logits`: `[V]`, the model's output at the last position. `ids`: the prompt and the tokens generated so far, of
    /// which the first `n_prompt` are prompt; ids beyond V are ignored. `coin`: uniform in [0, 1), unused when greedy.
    /// A token of probability 0 is never returned. Greedy takes the lowest id among equals, like `torch.argmax`.
    ///
    /// # Errors
    /// `invalid_logits` if a logit is NaN or +inf (it names the token), or if no token is left to choose from.
    pub fn pick(&mut self, logits: &[f32], ids: &[TokenId], n_prompt: usize, coin: f64) -> Result<TokenId, Error> {
        if !self.params.do_sample {
            let max = self.penalise(logits, ids, n_prompt)?;
            return Ok(first_at(max, &self.scores));
        }
        self.weigh(logits, ids, n_prompt)?;
        let index = walk(&self.weights, coin);
        Ok(self.ranked.get(index).map_or(index as TokenId, |candidate| candidate.id))
    }

    /// How many of the best logits decide, if no others can: 1 when greedy, else `top_k` and one more, which shows
    /// whether there is a tie at the edge. `None` where the choice takes all of them. `vocab_size`: V.
    pub fn n_best(&self, vocab_size: usize) -> Option<usize> {
        let p = &self.params;
        let is_plain = p.repetition_penalty == 1.0
            && p.presence_penalty == 0.0
            && p.frequency_penalty == 0.0
            && p.no_repeat_ngram_size == 0;
        match (is_plain, p.do_sample) {
            (true, false) => Some(1),
            (true, true) if (1..vocab_size).contains(&p.top_k) => Some(p.top_k + 1),
            _ => None,
        }
    }

    /// What [`Sampler::pick`] gives for logits whose [`Sampler::n_best`] best are these, all logits being finite.
    ///
    /// `best`: (id, logit), most likely first, ties by lower id. `coin` as there. `None` where they do not decide:
    /// there are too few, or the last two are a tie, of which `top_k` keeps more than can be seen here.
    pub fn pick_from_best(&mut self, best: &[(TokenId, f32)], coin: f64) -> Option<TokenId> {
        let &(first, max) = best.first()?;
        if !self.params.do_sample {
            return Some(first);
        }
        let (kept, [next, ..]) = best.split_at_checked(self.params.top_k)? else { return None };
        if kept.last()?.1 == next.1 {
            return None;
        }
        self.ranked.clear();
        self.ranked.extend(kept.iter().map(|&(id, score)| Candidate { id, score }));
        let whole = self.ranked.iter().map(|c| f64::from(weight(c, max, self.params.temperature))).sum();
        self.keep(max, whole);
        self.ranked.get(walk(&self.weights, coin)).map(|candidate| candidate.id)
    }

    /// What [`Sampler::pick`] draws from: (id, probability) of each token still allowed, most likely first; the
    /// probabilities sum to 1. Greedy, the softmax of the penalised logits, whose first token `pick` takes. For tests
    /// and inspection: unlike `pick` it may sort the whole vocabulary.
    ///
    /// # Errors
    /// As [`Sampler::pick`].
    pub fn distribution(
        &mut self,
        logits: &[f32],
        ids: &[TokenId],
        n_prompt: usize,
    ) -> Result<Vec<(TokenId, f32)>, Error> {
        self.weigh(logits, ids, n_prompt)?;
        let total = sum(&self.weights);
        let probability = |weight: f32| (f64::from(weight) / total) as f32;
        if !self.ranked.is_empty() {
            return Ok(self.ranked.iter().zip(&self.weights).map(|(c, &w)| (c.id, probability(w))).collect());
        }
        let min_p = if self.params.do_sample { self.params.min_p } else { 0.0 };
        let mut allowed: Vec<usize> = (0..self.scores.len())
            .filter(|&i| self.scores[i] > f32::NEG_INFINITY && self.weights[i] >= min_p)
            .collect();
        // stable, so the lower id stays first among equals
        allowed.sort_by(|&a, &b| self.scores[b].partial_cmp(&self.scores[a]).unwrap_or(Ordering::Equal));
        Ok(allowed.into_iter().map(|i| (i as TokenId, probability(self.weights[i]))).collect())
    }

    /// Fills `scores` and returns the largest, which is finite.
    fn penalise(&mut self, logits: &[f32], ids: &[TokenId], n_prompt: usize) -> Result<f32, Error> {
        check(logits)?;
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        let p = &self.params;
        if p.repetition_penalty != 1.0 {
            for &id in ids {
                // from the raw logit, so that a token that occurs twice is penalised once
                if let Some(&logit) = logits.get(id as usize) {
                    let score = if logit < 0.0 { logit * p.repetition_penalty } else { logit / p.repetition_penalty };
                    self.scores[id as usize] = score.min(f32::MAX); // a penalty below 1 may overflow
                }
            }
        }
        if p.presence_penalty != 0.0 || p.frequency_penalty != 0.0 {
            self.generated.clear();
            self.generated.extend_from_slice(ids.get(n_prompt..).unwrap_or(&[]));
            self.generated.sort_unstable(); // equal ids side by side, to count them
            for same in self.generated.chunk_by(|a, b| a == b) {
                if let Some(score) = self.scores.get_mut(same[0] as usize) {
                    *score -= p.presence_penalty + same.len() as f32 * p.frequency_penalty;
                    *score = score.min(f32::MAX);
                }
            }
        }
        let n = p.no_repeat_ngram_size;
        if n > 0 && ids.len() >= n {
            // The next token must not complete an n-gram whose first n - 1 tokens are the last n - 1 of `ids`.
            let suffix = &ids[ids.len() + 1 - n..];
            for ngram in ids.windows(n).filter(|ngram| &ngram[..n - 1] == suffix) {
                if let Some(score) = self.scores.get_mut(ngram[n - 1] as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        finite_max(&self.scores)
    }

    /// Fills `weights`, and `ranked` where the parameters need an order.
    fn weigh(&mut self, logits: &[f32], ids: &[TokenId], n_prompt: usize) -> Result<(), Error> {
        let max = self.penalise(logits, ids, n_prompt)?;
        let Self { params, scores, ranked, weights, block_maxima, .. } = self;
        let greedy = SamplingParams::default();
        let p = if params.do_sample { &*params } else { &greedy };
        let top_k = if p.top_k < scores.len() { p.top_k } else { 0 };
        ranked.clear();
        if top_k == 0 && p.top_p >= 1.0 {
            weights.resize(scores.len(), 0.0);
            weigh_block(scores, max, p.temperature, weights);
            // min_p is relative to the largest weight, which is 1
            weights.iter_mut().for_each(|w| *w = if *w >= p.min_p { *w } else { 0.0 });
            return Ok(());
        }
        let sum_of = |some: &[Candidate]| some.iter().map(|c| f64::from(weight(c, max, p.temperature))).sum::<f64>();
        top(scores, if top_k == 0 { FIRST_GUESS } else { top_k }, block_maxima, ranked);
        // top_p is a share of the survivors of top_k if there is one, else of everything.
        let whole = if top_k == 0 { mass(scores, max, p.temperature) } else { sum_of(ranked) };
        let target = target(p, whole);
        if top_k == 0 && sum_of(ranked) < target {
            // The first guess was too small: halve the vocabulary towards the token at which the target is reached.
            ranked.clear();
            ranked.extend(candidates(scores, 0, f32::NEG_INFINITY));
            let (mut low, mut high, mut sum_below_low) = (0, ranked.len(), 0.0);
            while high - low > BLOCK {
                let middle = low + (high - low) / 2;
                ranked[low..high].select_nth_unstable_by(middle - low, by_score);
                let sum = sum_below_low + sum_of(&ranked[low..middle]);
                if sum >= target {
                    high = middle;
                } else {
                    (low, sum_below_low) = (middle, sum);
                }
            }
            ranked.truncate(high);
            ranked.sort_unstable_by(by_score);
        }
        self.keep(max, whole);
        Ok(())
    }

    /// Fills `weights` from `ranked` and cuts both to what `top_p`, a share of `whole`, and `min_p` leave.
    fn keep(&mut self, max: f32, whole: f64) {
        let Self { params, ranked, weights, .. } = self;
        let greedy = SamplingParams::default();
        let p = if params.do_sample { &*params } else { &greedy };
        let target = target(p, whole);
        weights.clear();
        weights.extend(ranked.iter().map(|candidate| weight(candidate, max, p.temperature)));
        let (mut n_kept, mut sum_before) = (0, 0.0);
        for &weight in &*weights {
            if n_kept > 0 && (sum_before >= target || weight < p.min_p) {
                break;
            }
            n_kept += 1;
            sum_before += f64::from(weight);
        }
        ranked.truncate(n_kept);
        weights.truncate(n_kept);
    }
}

/// Unnormalised: 1 for the score `max`.
fn weight(candidate: &Candidate, max: f32, temperature: f32) -> f32 {
    exp_neg((candidate.score - max) / temperature)
}

/// The weight at which `top_p` cuts.
fn target(p: &SamplingParams, whole: f64) -> f64 {
    if p.top_p < 1.0 { f64::from(p.top_p) * whole } else { f64::INFINITY }
}

/// How many tokens a `top_p` without `top_k` looks at first; text is rarely so open that the mass needs more.
const FIRST_GUESS: usize = 256;
