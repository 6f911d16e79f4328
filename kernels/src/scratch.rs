//! What a pass writes and nobody keeps.

use alloc::vec;
use alloc::vec::Vec;

use crate::activations::Activations;
use crate::cache::{Query, padded_dim};
use crate::forward::MAX_TOKENS;
use crate::layout::{Dims, GROUP};
use crate::product::Widened;

/// What the members share and write by turns; rows are padded to whole vectors.
pub struct Scratch {
    /// The residual stream: [T, C'/4]
    pub(crate) x: Vec<[f32; 4]>,
    /// [T, (3C)'/4]
    pub(crate) qkv: Vec<[f32; 4]>,
    /// Outputs of the heads: [H, T, D'/4]
    pub(crate) heads: Vec<[f32; 4]>,
    /// [T, n_inner'/4]
    pub(crate) hidden: Vec<[f32; 4]>,
    pub(crate) own: Vec<Own>,
}

/// What each member has for itself.
pub(crate) struct Own {
    /// [T, C]
    pub narrow: Activations,
    /// [T, n_inner]
    pub wide: Activations,
    pub widened: Widened,
    pub query: Query,
    pub scores: Vec<f32>,
}

impl Scratch {
    /// Room for [`MAX_TOKENS`] tokens of this model.
    pub fn new(dims: &Dims, n_members: usize) -> Self {
        let (n_head, c, n_inner) = (dims.n_head, dims.n_embd, dims.n_inner);
        let lines = |n: usize| vec![[0.0; 4]; MAX_TOKENS * n.div_ceil(GROUP)];
        let own = || Own {
            narrow: Activations::new(MAX_TOKENS, c),
            wide: Activations::new(MAX_TOKENS, n_inner),
            widened: Widened::default(),
            query: Query::new(c / n_head),
            scores: Vec::new(),
        };
        Self {
            x: lines(c),
            qkv: lines(3 * c),
            heads: vec![[0.0; 4]; MAX_TOKENS * n_head * padded_dim(c / n_head) / 4],
            hidden: lines(n_inner),
            own: (0..n_members).map(|_| own()).collect(),
        }
    }

    /// How many members there is room for.
    pub fn n_members(&self) -> usize {
        self.own.len()
    }
}
