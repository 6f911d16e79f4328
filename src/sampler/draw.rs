//! The choice of a token from its processed logits.

use super::logits::{
    BLOCK, Candidate, by_score, candidates, check, exp_neg, finite_max, first_at, mass, top, walk, weigh_block,
};
use super::params::SamplingParams;
use super::processors::{Place, Processor, processors};
use crate::error::Error;
use crate::token::TokenId;

/// How many tokens a `top_p` without `top_k` looks at first; text is rarely so open that the mass needs more.
const FIRST_GUESS: usize = 256;

/// What shapes a draw, in the precision that it is computed in. See [`SamplingParams`].
#[derive(Clone, Copy)]
pub(super) struct Draw {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    pub min_p: f32,
}

impl Draw {
    /// The softmax of the scores.
    pub const NEUTRAL: Self = Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

    /// Unnormalised: 1 for the score `max`.
    fn weight(self, candidate: &Candidate, max: f32) -> f32 {
        exp_neg((candidate.score - max) / self.temperature)
    }

    /// The weight at which `top_p` cuts.
    fn target(self, whole: f64) -> f64 {
        if self.top_p < 1.0 { f64::from(self.top_p) * whole } else { f64::INFINITY }
    }
}

/// Chooses tokens by one set of [`SamplingParams`]. It remembers nothing between tokens; what it holds is scratch memory.
pub struct Sampler {
    processors: Vec<Processor>,
    /// `None` is greedy.
    pub(super) draw: Option<Draw>,
    /// `[V]` the logits after the processors; finite, or -inf for a masked token.
    pub(super) scores: Vec<f32>,
    /// Most likely first; empty when the coin walks in id order.
    pub(super) ranked: Vec<Candidate>,
    /// Unnormalised probabilities, the largest 1: `weights[i]` belongs to `ranked[i]`, or to token i if `ranked` is empty.
    pub(super) weights: Vec<f32>,
    block_maxima: Vec<f32>,
    sorted: Vec<TokenId>,
}

impl Sampler {
    /// A sampler for parameters that have passed [`SamplingParams::validate`], of texts that nothing ends.
    pub fn new(params: SamplingParams) -> Self {
        Self::with_ends(&params, &[], usize::MAX)
    }

    /// A sampler of texts that one of `eos` ends, or the `max_new_tokens`-th new token. It only changes logits by them where
    /// the parameters say so: the caller ends the text.
    pub fn with_ends(params: &SamplingParams, eos: &[TokenId], max_new_tokens: usize) -> Self {
        let draw = Draw {
            temperature: params.temperature as f32,
            top_k: params.top_k,
            top_p: params.top_p as f32,
            min_p: params.min_p as f32,
        };
        Self {
            processors: processors(params, eos, max_new_tokens),
            draw: (!params.is_greedy()).then_some(draw),
            scores: vec![],
            ranked: vec![],
            weights: vec![],
            block_maxima: vec![],
            sorted: vec![],
        }
    }

    /// The next token.
    ///
    /// `logits`: `[V]`, the model's output at the last position. `ids`: the prompt and the tokens generated so far, of which
    /// the first `n_prompt` are prompt; ids beyond V are ignored. `coin`: uniform in [0, 1), unused when greedy. A token of
    /// probability 0 is never returned. Greedy takes the lowest id among equals, like `torch.argmax`.
    ///
    /// # Errors
    /// `invalid_logits` if a logit is NaN or +inf (it names the token), or if no token is left to choose from.
    pub fn pick(&mut self, logits: &[f32], ids: &[TokenId], n_prompt: usize, coin: f64) -> Result<TokenId, Error> {
        let max = self.score(logits, Place { ids, n_prompt })?;
        let Some(draw) = self.draw else { return Ok(first_at(max, &self.scores)) };
        self.weigh(max, draw);
        let index = walk(&self.weights, coin);
        Ok(self.ranked.get(index).map_or(index as TokenId, |candidate| candidate.id))
    }

    /// How many of the best logits decide, if no others can: 1 when greedy, else `top_k` and one more, which shows whether
    /// there is a tie at the edge. `None` where the choice takes all of them. `vocab_size`: V.
    pub fn n_best(&self, vocab_size: usize) -> Option<usize> {
        if !self.processors.is_empty() {
            return None;
        }
        match self.draw {
            None => Some(1),
            Some(draw) => (1..vocab_size).contains(&draw.top_k).then_some(draw.top_k + 1),
        }
    }

    /// Whether [`Sampler::pick`] draws from the whole vocabulary as it is, by id. `vocab_size`: V.
    pub fn draws_from_all(&self, vocab_size: usize) -> bool {
        let is_whole = |draw: Draw| !(1..vocab_size).contains(&draw.top_k) && draw.top_p >= 1.0 && draw.min_p <= 0.0;
        self.processors.is_empty() && self.draw.is_some_and(is_whole)
    }

    /// What [`Sampler::pick`] gives for logits whose [`Sampler::n_best`] best are these, all logits being finite.
    ///
    /// `best`: (id, logit), most likely first, ties by lower id. `coin` as there. `None` where they do not decide: there are
    /// too few, the last two are a tie, of which `top_k` keeps more than can be seen here, or a processor may change them.
    pub fn pick_from_best(&mut self, best: &[(TokenId, f32)], coin: f64) -> Option<TokenId> {
        if !self.processors.is_empty() {
            return None;
        }
        let &(first, max) = best.first()?;
        let Some(draw) = self.draw else { return Some(first) };
        let (kept, [next, ..]) = best.split_at_checked(draw.top_k)? else { return None };
        if kept.last()?.1 == next.1 {
            return None;
        }
        self.ranked.clear();
        self.ranked.extend(kept.iter().map(|&(id, score)| Candidate { id, score }));
        let whole = self.ranked.iter().map(|c| f64::from(draw.weight(c, max))).sum();
        self.keep(max, whole, draw);
        self.ranked.get(walk(&self.weights, coin)).map(|candidate| candidate.id)
    }

    /// Fills `scores` and returns the largest, which is finite.
    pub(super) fn score(&mut self, logits: &[f32], place: Place) -> Result<f32, Error> {
        check(logits)?;
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        for processor in &self.processors {
            processor.apply(&mut self.scores, place, &mut self.sorted);
        }
        finite_max(&self.scores)
    }

    /// Fills `weights` from `scores`, whose largest is `max`, and `ranked` where the draw needs an order.
    pub(super) fn weigh(&mut self, max: f32, draw: Draw) {
        let Self { scores, ranked, weights, block_maxima, .. } = self;
        let top_k = if draw.top_k < scores.len() { draw.top_k } else { 0 };
        ranked.clear();
        if top_k == 0 && draw.top_p >= 1.0 {
            weights.resize(scores.len(), 0.0);
            weigh_block(scores, max, draw.temperature, weights);
            // min_p is relative to the largest weight, which is 1
            weights.iter_mut().for_each(|w| *w = if *w >= draw.min_p { *w } else { 0.0 });
            return;
        }
        let sum_of = |some: &[Candidate]| some.iter().map(|c| f64::from(draw.weight(c, max))).sum::<f64>();
        top(scores, if top_k == 0 { FIRST_GUESS } else { top_k }, block_maxima, ranked);
        // top_p is a share of the survivors of top_k if there is one, else of everything.
        let whole = if top_k == 0 { mass(scores, max, draw.temperature) } else { sum_of(ranked) };
        let target = draw.target(whole);
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
        self.keep(max, whole, draw);
    }

    /// Fills `weights` from `ranked` and cuts both to what `top_p`, a share of `whole`, and `min_p` leave.
    fn keep(&mut self, max: f32, whole: f64, draw: Draw) {
        let Self { ranked, weights, .. } = self;
        let target = draw.target(whole);
        weights.clear();
        weights.extend(ranked.iter().map(|candidate| draw.weight(candidate, max)));
        let (mut n_kept, mut sum_before) = (0, 0.0);
        for &weight in &*weights {
            if n_kept > 0 && (sum_before >= target || weight < draw.min_p) {
                break;
            }
            n_kept += 1;
            sum_before += f64::from(weight);
        }
        ranked.truncate(n_kept);
        weights.truncate(n_kept);
    }
}
