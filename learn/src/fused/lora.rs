//! Low-rank adapters (Hu et al. 2021, §4.1) that learn while the model stays as it is: y = x W + b + s (x Aᵀ) Bᵀ.
//!
//! A and B of every module stand in one flat buffer, as the model's own parameters do in theirs, and so do their
//! gradients and moments.

use std::ops::Range;

use super::math::{View, ViewMut, Write, product};

/// How many modules of a block can have an adapter: `attn.c_attn`, `attn.c_proj`, `mlp.c_fc`, `mlp.c_proj`.
pub const N_MODULES: usize = 4;

/// The matrices of one module, K inputs to R outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPart {
    /// r
    pub rank: usize,
    /// A's place, [r, K].
    pub a: Range<usize>,
    /// B's place, [R, r].
    pub b: Range<usize>,
    /// s
    pub scale: f32,
}

/// Where each matrix of an adapter stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoraLayout {
    /// Of each block, the modules in their order.
    pub blocks: Vec<[Option<LoraPart>; N_MODULES]>,
    /// How many values there are.
    pub n_params: usize,
}

/// An adapter in a pass.
#[derive(Clone, Copy, Debug)]
pub struct Lora<'a> {
    /// Where its matrices are.
    pub layout: &'a LoraLayout,
    /// Its parameters.
    pub params: &'a [f32],
}

impl LoraPart {
    fn n_in(&self) -> usize {
        self.a.len() / self.rank
    }

    fn n_out(&self) -> usize {
        self.b.len() / self.rank
    }

    fn a<'a>(&self, params: &'a [f32]) -> View<'a> {
        View::new(&params[self.a.clone()], self.rank, self.n_in())
    }

    fn b<'a>(&self, params: &'a [f32]) -> View<'a> {
        View::new(&params[self.b.clone()], self.n_out(), self.rank)
    }

    /// Adds s (x Aᵀ) Bᵀ to `out`. x: [N, K], out: [N, R]; leaves x Aᵀ in `low`, [N, r].
    pub fn forward(&self, out: &mut [f32], x: &[f32], params: &[f32], low: &mut Vec<f32>) {
        let (n, rank) = (x.len() / self.n_in(), self.rank);
        low.resize(n * rank, 0.0);
        product(ViewMut::new(low, n, rank), Write::Replace, 1.0, View::new(x, n, self.n_in()), self.a(params).t());
        let out = ViewMut::new(out, n, self.n_out());
        product(out, Write::Add, self.scale, View::new(low, n, rank), self.b(params).t());
    }

    /// The gradient of [`Self::forward`]: adds to `dx` and to A's and B's gradients. dx, x: [N, K], dy: [N, R]
    #[allow(clippy::too_many_arguments)] // as many as the formula has terms
    pub fn backward(
        &self,
        dx: &mut [f32],
        grads: &mut [f32],
        dy: &[f32],
        x: &[f32],
        params: &[f32],
        low: &[f32],
        d_low: &mut Vec<f32>,
    ) {
        let (n, rank, n_in, n_out) = (x.len() / self.n_in(), self.rank, self.n_in(), self.n_out());
        let (x, dy, low) = (View::new(x, n, n_in), View::new(dy, n, n_out), View::new(low, n, rank));
        d_low.resize(n * rank, 0.0);
        product(ViewMut::new(d_low, n, rank), Write::Replace, self.scale, dy, self.b(params));
        product(ViewMut::new(&mut grads[self.b.clone()], n_out, rank), Write::Add, self.scale, dy.t(), low);
        let d_low = View::new(d_low, n, rank);
        product(ViewMut::new(&mut grads[self.a.clone()], rank, n_in), Write::Add, 1.0, d_low.t(), x);
        product(ViewMut::new(dx, n, n_in), Write::Add, 1.0, d_low, self.a(params));
    }
}
