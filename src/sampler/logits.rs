//! What a row of logits says by itself, and the arithmetic on it: in blocks and lanes, so that it vectorises, and in
//! the same order everywhere, so that it gives the same bits.

use std::cmp::Ordering;

use crate::error::Error;
use crate::token::TokenId;

/// Scores summed or compared as one block.
pub(super) const BLOCK: usize = 64;

/// A token in the running, with its score: the logit after the penalties, before the temperature.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub id: TokenId,
    pub score: f32,
}

/// The id of the largest logit, the lowest id among equals. `logits`: `[V]`.
///
/// # Errors
/// `invalid_logits` if a logit is NaN or +inf, or if there is none above -inf.
pub fn argmax(logits: &[f32]) -> Result<TokenId, Error> {
    check(logits)?;
    Ok(first_at(finite_max(logits)?, logits))
}

/// The natural logarithm of a token's probability under the raw logits `[V]`: no penalty, no temperature. -inf for an
/// id beyond V; NaN if the logits have no softmax (NaN or +inf among them, or all of them -inf).
pub fn log_prob(logits: &[f32], id: TokenId) -> f32 {
    let Some(&logit) = logits.get(id as usize) else { return f32::NEG_INFINITY };
    log_total(logits).map_or(f32::NAN, |total| (f64::from(logit) - total) as f32)
}

/// The `n` most likely tokens of the raw logits `[V]` and their [`log_prob`], most likely first, ties by lower id.
/// Fewer where fewer are above -inf; none if the logits have no softmax.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let Ok(total) = log_total(logits) else { return vec![] };
    let mut ranked = vec![];
    top(logits, n, &mut vec![], &mut ranked); // keeps every tie
    ranked.iter().take(n).map(|c| (c.id, (f64::from(c.score) - total) as f32)).collect()
}

/// How undecided the raw logits `[V]` leave it which token comes, in nats: -Σ p ln p. 0 where one token is certain, ln V
/// where all are alike; NaN if the logits have no softmax.
pub fn entropy(logits: &[f32]) -> f32 {
    let (Ok(()), Ok(max)) = (check(logits), finite_max(logits)) else { return f32::NAN };
    let (mut total, mut expected) = (0.0, 0.0); // Σ w and Σ w (logit - max), with w = exp(logit - max)
    let mut weights = [0.0; BLOCK];
    for block in logits.chunks(BLOCK) {
        let weights = &mut weights[..block.len()];
        weigh_block(block, max, 1.0, weights);
        total += lane_sum(weights);
        // a masked token has no weight, and nothing times its infinity is no number
        let parts = weights.iter().zip(block).filter(|&(_, &logit)| logit > f32::NEG_INFINITY);
        expected += parts.map(|(&weight, &logit)| f64::from(weight) * f64::from(logit - max)).sum::<f64>();
    }
    (total.ln() - expected / total) as f32
}

/// How many tokens come before this one: 0 is the most likely, ties by lower id. V for an id beyond V. `logits`: `[V]`.
pub fn rank(logits: &[f32], id: TokenId) -> usize {
    let Some(&own) = logits.get(id as usize) else { return logits.len() };
    let (lower, higher) = logits.split_at(id as usize);
    lower.iter().filter(|&&logit| logit >= own).count() + higher.iter().filter(|&&logit| logit > own).count()
}

/// The tokens that score at least as much as the `n`-th best, most likely first, ties by lower id; no masked ones.
pub(super) fn top(scores: &[f32], n: usize, block_maxima: &mut Vec<f32>, ranked: &mut Vec<Candidate>) {
    ranked.clear();
    if n == 0 {
        return;
    }
    block_maxima.clear();
    block_maxima.extend(scores.chunks(BLOCK).map(max));
    // n blocks hold a score of at least the n-th largest maximum, so nothing below it can be among the n best.
    let mut bound = f32::NEG_INFINITY;
    if n <= block_maxima.len() {
        bound = *block_maxima.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1;
    }
    for (block, scores) in scores.chunks(BLOCK).enumerate() {
        if max(scores) >= bound {
            ranked.extend(candidates(scores, block * BLOCK, bound));
        }
    }
    if ranked.len() > n {
        let nth = ranked.select_nth_unstable_by(n - 1, by_score).1.score;
        ranked.retain(|candidate| candidate.score >= nth);
    }
    ranked.sort_unstable_by(by_score);
}

/// The tokens from `first_id` on that score at least `bound` and are not masked.
pub(super) fn candidates(scores: &[f32], first_id: usize, bound: f32) -> impl Iterator<Item = Candidate> {
    let with_id = scores.iter().enumerate().map(move |(i, &score)| Candidate { id: (first_id + i) as TokenId, score });
    with_id.filter(move |candidate| candidate.score >= bound && candidate.score > f32::NEG_INFINITY)
}

/// Most likely first, ties by lower id. No score is NaN.
pub(super) fn by_score(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// The index on which a coin in [0, 1) lands when the weights lie end to end; never one of weight 0.
pub(super) fn walk(weights: &[f32], coin: f64) -> usize {
    let mut rest = coin * sum(weights);
    // Block by block, then inside the block. Where rounding (or a coin of 1) runs past an end, the last of weight
    // stands.
    let (mut start, mut inside) = (0, 0.0);
    for (i, block) in weights.chunks(BLOCK).enumerate() {
        let block_sum = lane_sum(block);
        if block_sum > 0.0 {
            (start, inside) = (i * BLOCK, rest);
            if rest < block_sum {
                break;
            }
            rest -= block_sum;
        }
    }
    let mut index = start;
    for (i, weight) in weights.iter().map(|&weight| f64::from(weight)).enumerate().skip(start).take(BLOCK) {
        if weight > 0.0 {
            index = i;
            if inside < weight {
                break;
            }
            inside -= weight;
        }
    }
    index
}

/// Σ exp((score - max) / temperature); at least 1.
pub(super) fn mass(scores: &[f32], max: f32, temperature: f32) -> f64 {
    let mut weights = [0.0; BLOCK];
    let block_mass = |block: &[f32]| {
        let weights = &mut weights[..block.len()];
        weigh_block(block, max, temperature, weights);
        lane_sum(weights)
    };
    scores.chunks(BLOCK).map(block_mass).sum()
}

/// weights = exp((score - max) / temperature)
pub(super) fn weigh_block(scores: &[f32], max: f32, temperature: f32, weights: &mut [f32]) {
    weights.iter_mut().zip(scores).for_each(|(w, &score)| *w = exp_neg((score - max) / temperature));
}

/// ln Σ exp(logit)
fn log_total(logits: &[f32]) -> Result<f64, Error> {
    check(logits)?;
    let max = finite_max(logits)?;
    Ok(f64::from(max) + mass(logits, max, 1.0).ln())
}

/// Σ in double precision.
pub(super) fn sum(weights: &[f32]) -> f64 {
    weights.chunks(BLOCK).map(lane_sum).sum()
}

/// Σ in double precision, in 8 lanes so that it vectorises; always in the same order.
fn lane_sum(block: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = block.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += f64::from(x));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x)).sum::<f64>()
}

/// The largest, in 16 lanes so that it vectorises; -inf if there is none. NaN is skipped.
fn max(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = scores.as_chunks::<16>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane = larger(*lane, x));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// # Errors
/// `invalid_logits` for NaN or +inf.
pub(super) fn check(logits: &[f32]) -> Result<(), Error> {
    // false for NaN and for +inf; no early exit, so that it vectorises
    if logits.iter().fold(true, |valid, &logit| valid & (logit < f32::INFINITY)) {
        return Ok(());
    }
    let bad = logits.iter().enumerate().find(|&(_, &logit)| logit.is_nan() || logit == f32::INFINITY);
    let (id, logit) = bad.unwrap_or((0, &f32::NAN));
    Err(Error::invalid_logits(format!("expected a finite logit or -inf for token {id}, found {logit}")))
}

/// The largest.
///
/// # Errors
/// `invalid_logits` if all are -inf.
pub(super) fn finite_max(scores: &[f32]) -> Result<f32, Error> {
    let max = max(scores);
    if max > f32::NEG_INFINITY {
        return Ok(max);
    }
    Err(Error::invalid_logits(format!("no token left to choose from: all {} logits are -inf", scores.len())))
}

/// The lowest id of this score.
pub(super) fn first_at(score: f32, scores: &[f32]) -> TokenId {
    scores.iter().position(|&other| other == score).unwrap_or(0) as TokenId
}

/// e^x for x <= 0, to a relative 2e-7; 0 from -87 down and for NaN. The same bits on every machine, and vectorisable.
/// Cody and Waite's reduction with the polynomial of Cephes' `expf.c` (Moshier 1989).
pub(super) fn exp_neg(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * (355.0 / 512.0) + n * 2.121_944_4e-4; // x - n ln 2, ln 2 in two parts
    const P: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let p = P.iter().fold(0.0, |p, coefficient| p * r + coefficient);
    let power_of_2 = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    let exp = (p * r * r + r + 1.0) * power_of_2;
    if x > -87.0 { exp } else { 0.0 }
}
