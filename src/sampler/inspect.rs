//! What a sampler would draw from, for tests and for people who want to see it. Choosing a token does not come here.

use std::cmp::Ordering;

use super::draw::{Draw, Sampler};
use super::logits::sum;
use super::processors::Place;
use crate::error::Error;
use crate::token::TokenId;

impl Sampler {
    /// What [`Sampler::pick`] draws from: (id, probability) of each token still allowed, most likely first; the
    /// probabilities sum to 1. Greedy, the softmax of the processed logits, whose first token `pick` takes. Unlike `pick` it
    /// may sort the whole vocabulary.
    ///
    /// # Errors
    /// As [`Sampler::pick`].
    pub fn distribution(
        &mut self,
        logits: &[f32],
        ids: &[TokenId],
        n_prompt: usize,
    ) -> Result<Vec<(TokenId, f32)>, Error> {
        let max = self.score(logits, Place { ids, n_prompt })?;
        let draw = self.draw.unwrap_or(Draw::NEUTRAL);
        self.weigh(max, draw);
        let total = sum(&self.weights);
        let probability = |weight: f32| (f64::from(weight) / total) as f32;
        if !self.ranked.is_empty() {
            return Ok(self.ranked.iter().zip(&self.weights).map(|(c, &w)| (c.id, probability(w))).collect());
        }
        let mut allowed: Vec<usize> = (0..self.scores.len())
            .filter(|&i| self.scores[i] > f32::NEG_INFINITY && self.weights[i] >= draw.min_p)
            .collect();
        // stable, so the lower id stays first among equals
        allowed.sort_by(|&a, &b| self.scores[b].partial_cmp(&self.scores[a]).unwrap_or(Ordering::Equal));
        Ok(allowed.into_iter().map(|i| (i as TokenId, probability(self.weights[i]))).collect())
    }
}
