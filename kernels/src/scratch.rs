//! The memory that a pass works in. Nothing in it outlives the pass.

use alloc::vec;
use alloc::vec::Vec;

use crate::adapter::Lowered;
use crate::cache::{Query, padded_dim};
use crate::dims::Dims;
use crate::inputs::Inputs;
use crate::limits::{GROUP, MAX_TOKENS};
use crate::product::Widened;

/// The memory of a team. Its members share all but `members`; each stage writes what the next one reads. Rows are
/// padded to whole vectors of four.
pub struct Scratch {
    /// The residual stream: [T, C'/4]
    pub(crate) x: Vec<[f32; 4]>,
    /// [T, (3C)'/4]
    pub(crate) qkv: Vec<[f32; 4]>,
    /// Outputs of the heads: [H, T, D'/4]
    pub(crate) heads: Vec<[f32; 4]>,
    /// The MLP's hidden layer: [T, n_inner'/4]
    pub(crate) hidden: Vec<[f32; 4]>,
    /// [n_members]
    pub(crate) members: Vec<MemberScratch>,
}

/// What each member has for itself.
pub(crate) struct MemberScratch {
    /// Inputs of the products of width C: [T, C]
    pub inputs: Inputs,
    /// Inputs of `mlp.c_proj`: [T, n_inner]
    pub inner_inputs: Inputs,
    /// What adapters make of the inputs of the current product.
    pub lowered: Lowered,
    /// One group of rows of a matrix.
    pub widened: Widened,
    /// The query of one token and head.
    pub query: Query,
    /// The scores of that query, and then its attention weights: [S]
    pub scores: Vec<f32>,
}

impl Scratch {
    /// Room for [`MAX_TOKENS`] tokens of this model.
    pub fn new(dims: &Dims, n_members: usize) -> Self {
        let (n_head, c, n_inner) = (dims.n_head, dims.n_embd, dims.n_inner);
        let vectors = |n: usize| vec![[0.0; 4]; MAX_TOKENS * n.div_ceil(GROUP)];
        let member = || MemberScratch {
            inputs: Inputs::new(MAX_TOKENS, c),
            inner_inputs: Inputs::new(MAX_TOKENS, n_inner),
            lowered: Lowered::default(),
            widened: Widened::default(),
            query: Query::new(c / n_head),
            scores: Vec::new(),
        };
        Self {
            x: vectors(c),
            qkv: vectors(3 * c),
            heads: vec![[0.0; 4]; MAX_TOKENS * n_head * padded_dim(c / n_head) / 4],
            hidden: vectors(n_inner),
            members: (0..n_members).map(|_| member()).collect(),
        }
    }

    /// How many members there is room for.
    pub fn n_members(&self) -> usize {
        self.members.len()
    }
}
