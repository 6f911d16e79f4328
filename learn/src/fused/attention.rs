//! Causal attention in blocks of queries, whose backward pass starts from the log-sum-exp of each row of scores
//! (Dao et al. 2022, algorithm 4): no [T, T] is kept, and keys that no query of a block sees are not computed.

use super::dropout::{Mask, RowDropout, Site};
use super::math::{View, ViewMut, Write, dot, exp, product, sum_of, vectorised};

/// Queries at once: scores of [64, 1024] still fit a core's second cache.
const N_QUERIES: usize = 64;

/// What attention needs to know of a model and of one row.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The block.
    pub layer: usize,
    /// T, tokens of the row.
    pub n_tokens: usize,
    /// H
    pub n_head: usize,
    /// D
    pub head_dim: usize,
    /// What scores are multiplied by before the softmax.
    pub scale: f32,
    /// The row's masks.
    pub dropout: Option<&'a RowDropout>,
}

/// Scores and their gradients of one block of queries.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    weights: Vec<f32>,
    d_weights: Vec<f32>,
}

impl AttentionScratch {
    fn reserve(&mut self, n_tokens: usize) {
        let n = N_QUERIES.min(n_tokens) * n_tokens;
        self.weights.resize(n.max(self.weights.len()), 0.0);
        self.d_weights.resize(n.max(self.d_weights.len()), 0.0);
    }
}

/// A block of queries of one head.
struct QueryBlock {
    begin: usize,
    n_queries: usize,
    /// Keys that at least one of them sees: those up to the last query.
    n_keys: usize,
}

impl Heads<'_> {
    fn c(&self) -> usize {
        self.n_head * self.head_dim
    }

    fn blocks(&self) -> impl Iterator<Item = QueryBlock> + use<> {
        let n_tokens = self.n_tokens;
        (0..n_tokens).step_by(N_QUERIES).map(move |begin| {
            let n_queries = N_QUERIES.min(n_tokens - begin);
            QueryBlock { begin, n_queries, n_keys: begin + n_queries }
        })
    }

    /// Rows `begin`.. of the queries (0), keys (1) or values (2) of a head: [n, D] in [T, 3 C].
    fn part<'a>(&self, qkv: &'a [f32], which: usize, head: usize, begin: usize, n: usize) -> View<'a> {
        let c = self.c();
        View::strided(&qkv[begin * 3 * c + which * c + head * self.head_dim..], n, self.head_dim, 3 * c)
    }

    fn part_mut<'a>(&self, qkv: &'a mut [f32], which: usize, head: usize, begin: usize, n: usize) -> ViewMut<'a> {
        let c = self.c();
        ViewMut::strided(&mut qkv[begin * 3 * c + which * c + head * self.head_dim..], n, self.head_dim, 3 * c)
    }

    fn mask(&self, head: usize) -> Option<Mask> {
        self.dropout.and_then(|dropout| dropout.mask(Site::Attention { layer: self.layer, head }))
    }

    /// Attends within one row. qkv: [T, 3 C] → out: [T, C], and the log-sum-exp of each query's scores, lse: [H, T]
    pub fn forward(&self, out: &mut [f32], lse: &mut [f32], qkv: &[f32], scratch: &mut AttentionScratch) {
        scratch.reserve(self.n_tokens);
        let (t, c, d) = (self.n_tokens, self.c(), self.head_dim);
        for head in 0..self.n_head {
            let mask = self.mask(head);
            for block in self.blocks() {
                let QueryBlock { begin, n_queries, n_keys } = block;
                let weights = &mut scratch.weights[..n_queries * n_keys];
                self.scores(weights, qkv, head, &block);
                softmax(weights, &block, &mut lse[head * t + begin..][..n_queries]);
                if let Some(mask) = mask {
                    apply(&mask, weights, &block, t);
                }
                let out = ViewMut::strided(&mut out[begin * c + head * d..], n_queries, d, c);
                let values = self.part(qkv, 2, head, 0, n_keys);
                product(out, Write::Replace, 1.0, View::new(weights, n_queries, n_keys), values);
            }
        }
    }

    /// The gradient of [`Self::forward`]: replaces `d_qkv` [T, 3 C]. d_out, out: [T, C]
    pub fn backward(
        &self,
        d_qkv: &mut [f32],
        d_out: &[f32],
        out: &[f32],
        lse: &[f32],
        qkv: &[f32],
        scratch: &mut AttentionScratch,
    ) {
        scratch.reserve(self.n_tokens);
        let (t, c, d) = (self.n_tokens, self.c(), self.head_dim);
        d_qkv.fill(0.0); // each block of queries adds to the keys and values that it sees
        for head in 0..self.n_head {
            let mask = self.mask(head);
            for block in self.blocks() {
                let QueryBlock { begin, n_queries, n_keys } = block;
                let weights = &mut scratch.weights[..n_queries * n_keys];
                let d_weights = &mut scratch.d_weights[..n_queries * n_keys];
                let rows = begin * c + head * d;
                let d_out_view = View::strided(&d_out[rows..], n_queries, d, c);

                self.scores(weights, qkv, head, &block);
                softmax_again(weights, &block, &lse[head * t + begin..][..n_queries]);
                let values = self.part(qkv, 2, head, 0, n_keys);
                product(ViewMut::new(d_weights, n_queries, n_keys), Write::Replace, 1.0, d_out_view, values.t());
                let d_values = |d_qkv: &mut [f32], weights: &[f32]| {
                    let d_values = self.part_mut(d_qkv, 2, head, 0, n_keys);
                    product(d_values, Write::Add, 1.0, View::new(weights, n_queries, n_keys).t(), d_out_view);
                };
                match mask {
                    None => d_values(d_qkv, weights),
                    Some(mask) => {
                        // the values saw the masked weights, and so does the gradient of the weights
                        apply(&mask, d_weights, &block, t);
                        apply(&mask, weights, &block, t);
                        d_values(d_qkv, weights);
                        self.scores(weights, qkv, head, &block);
                        softmax_again(weights, &block, &lse[head * t + begin..][..n_queries]);
                    }
                }
                vectorised(
                    #[inline(always)]
                    || {
                        for r in 0..n_queries {
                            let at = rows + r * c;
                            let sum = dot(&d_out[at..][..d], &out[at..][..d]); // Σ weights · d_weights
                            let row = r * n_keys..(r + 1) * n_keys;
                            for (d_weight, &weight) in d_weights[row.clone()].iter_mut().zip(&weights[row]) {
                                *d_weight = weight * (*d_weight - sum);
                            }
                        }
                    },
                );
                let d_scores = View::new(d_weights, n_queries, n_keys);
                let keys = self.part(qkv, 1, head, 0, n_keys);
                let queries = self.part(qkv, 0, head, begin, n_queries);
                product(self.part_mut(d_qkv, 0, head, begin, n_queries), Write::Replace, self.scale, d_scores, keys);
                product(self.part_mut(d_qkv, 1, head, 0, n_keys), Write::Add, self.scale, d_scores.t(), queries);
            }
        }
    }

    /// Scores of a block of queries against the keys that it sees, [queries, keys].
    fn scores(&self, scores: &mut [f32], qkv: &[f32], head: usize, block: &QueryBlock) {
        let queries = self.part(qkv, 0, head, block.begin, block.n_queries);
        let keys = self.part(qkv, 1, head, 0, block.n_keys);
        product(ViewMut::new(scores, block.n_queries, block.n_keys), Write::Replace, self.scale, queries, keys.t());
    }
}

/// Multiplies the weights by their mask, whose element (query, key) has the number query · T + key.
fn apply(mask: &Mask, weights: &mut [f32], block: &QueryBlock, n_tokens: usize) {
    for (r, row) in weights.chunks_exact_mut(block.n_keys).enumerate() {
        mask.apply(row, (block.begin + r) * n_tokens);
    }
}

/// Softmax of each row over the keys that its query sees; the others get 0.
fn softmax(scores: &mut [f32], block: &QueryBlock, lse: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (r, (row, lse)) in scores.chunks_exact_mut(block.n_keys).zip(lse).enumerate() {
                let (seen, hidden) = row.split_at_mut(block.begin + r + 1);
                let max = max(seen); // subtracted so that exp cannot overflow
                for x in seen.iter_mut() {
                    *x = exp(*x - max);
                }
                let sum = sum_of(seen.len(), |i| seen[i]);
                let share = 1.0 / sum;
                for x in seen.iter_mut() {
                    *x *= share;
                }
                hidden.fill(0.0);
                *lse = max + sum.ln();
            }
        },
    );
}

/// The same from the log-sum-exp, in one pass.
fn softmax_again(scores: &mut [f32], block: &QueryBlock, lse: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (r, (row, &lse)) in scores.chunks_exact_mut(block.n_keys).zip(lse).enumerate() {
                let (seen, hidden) = row.split_at_mut(block.begin + r + 1);
                for x in seen {
                    *x = exp(*x - lse);
                }
                hidden.fill(0.0);
            }
        },
    );
}

/// The largest value, in sixteen lanes.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}
