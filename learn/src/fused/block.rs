//! One block of the model, forwards and backwards, over flat buffers.

use gpt2_web::checkpoint::{Activation, Config};

use super::attention::{AttentionScratch, Heads};
use super::dropout::{RowDropout, Site};
use super::lora::{Lora, LoraPart, N_MODULES};
use super::math::{add, dot, vectorised};
use super::pointwise::{
    RowStats, activate, activate_backward, linear, linear_backward, linear_backward_frozen, norm, norm_backward,
    norm_backward_frozen,
};
use crate::layout::{Affine, BlockLayout};

/// What the backward pass of one block needs to know of its forward pass. N tokens in rows of T.
#[derive(Debug, Default)]
pub struct BlockActs {
    stats_1: RowStats,
    /// ln_1(x), [N, C]
    normed_1: Vec<f32>,
    /// [N, 3 C]
    qkv: Vec<f32>,
    /// Log-sum-exp of the scores, [rows, H, T].
    lse: Vec<f32>,
    /// The heads' outputs, [N, C].
    attended: Vec<f32>,
    /// The residual stream between attention and MLP, [N, C].
    middle: Vec<f32>,
    stats_2: RowStats,
    /// ln_2(middle), [N, C]
    normed_2: Vec<f32>,
    /// Before the nonlinearity, [N, `n_inner`].
    inner: Vec<f32>,
    /// After it.
    activated: Vec<f32>,
    /// x Aᵀ of each module's adapter.
    low: [Vec<f32>; N_MODULES],
}

/// One of a block's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// `attn.c_attn`
    Qkv,
    /// `attn.c_proj`
    Mix,
    /// `mlp.c_fc`
    Widen,
    /// `mlp.c_proj`
    Narrow,
}

impl Matrix {
    /// All, in the order of the forward pass.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Mix, Self::Widen, Self::Narrow];

    /// Its place.
    pub fn of(self, at: &BlockLayout) -> &Affine {
        match self {
            Self::Qkv => &at.c_attn,
            Self::Mix => &at.c_proj,
            Self::Widen => &at.c_fc,
            Self::Narrow => &at.mlp_c_proj,
        }
    }
}

impl BlockActs {
    /// What a matrix was multiplied with, [N, in].
    pub fn input(&self, matrix: Matrix) -> &[f32] {
        match matrix {
            Matrix::Qkv => &self.normed_1,
            Matrix::Mix => &self.attended,
            Matrix::Widen => &self.normed_2,
            Matrix::Narrow => &self.activated,
        }
    }
}

/// Gradients on their way, reused by every block.
#[derive(Debug, Default)]
pub struct BlockScratch {
    attention: AttentionScratch,
    d_inner: Vec<f32>,
    d_qkv: Vec<f32>,
    d_attended: Vec<f32>,
    d_normed: Vec<f32>,
    d_branch: Vec<f32>,
    d_low: Vec<f32>,
}

/// The modules of a block, as the parts of an adapter are numbered.
#[derive(Clone, Copy)]
enum Module {
    Attn,
    Proj,
    Fc,
    MlpProj,
}

/// Σ over tokens of value · gradient, which is the derivative by a factor on that value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FactorGradients {
    /// By a factor on each head's output, [blocks, H].
    pub heads: Vec<Vec<f64>>,
    /// By a factor on each neuron after the nonlinearity, [blocks, `n_inner`].
    pub neurons: Vec<Vec<f64>>,
}

/// A block of a model, with the row lengths and masks of what it is run on.
#[derive(Clone, Copy, Debug)]
pub struct BlockPass<'a> {
    /// Where its parameters are.
    pub at: &'a BlockLayout,
    /// All parameters.
    pub params: &'a [f32],
    /// Its number.
    pub layer: usize,
    /// H
    pub n_head: usize,
    /// Of the scores.
    pub scale: f32,
    /// ε
    pub epsilon: f32,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// T
    pub n_tokens: usize,
    /// The masks of each row, or none.
    pub dropout: Option<&'a [RowDropout]>,
    /// The adapter that learns; the block's own parameters do not then.
    pub lora: Option<Lora<'a>>,
}

fn sized(values: &mut Vec<f32>, n: usize) -> &mut [f32] {
    values.resize(n, 0.0);
    values
}

impl<'a> BlockPass<'a> {
    /// Block `layer` of a model.
    pub fn new(
        config: &Config,
        at: &'a BlockLayout,
        params: &'a [f32],
        layer: usize,
        n_tokens: usize,
        dropout: Option<&'a [RowDropout]>,
        lora: Option<Lora<'a>>,
    ) -> Self {
        Self {
            at,
            params,
            layer,
            n_head: config.n_head,
            scale: config.attn_scale(layer) as f32,
            epsilon: config.layer_norm_epsilon as f32,
            activation: config.activation_function,
            n_tokens,
            dropout,
            lora,
        }
    }

    fn c(&self) -> usize {
        self.at.ln_1.weight.len()
    }

    fn heads(&self, row: usize) -> Heads<'a> {
        Heads {
            layer: self.layer,
            n_tokens: self.n_tokens,
            n_head: self.n_head,
            head_dim: self.c() / self.n_head,
            scale: self.scale,
            dropout: self.dropout.map(|rows| &rows[row]),
        }
    }

    /// Multiplies what is [N, C] by the masks at `site`.
    fn drop(&self, values: &mut [f32], site: Site) {
        for (values, row) in values.chunks_exact_mut(self.n_tokens * self.c()).zip(self.dropout.unwrap_or_default()) {
            if let Some(mask) = row.mask(site) {
                mask.apply(values, 0);
            }
        }
    }

    fn affine(&self, module: Module) -> &'a Affine {
        match module {
            Module::Attn => &self.at.c_attn,
            Module::Proj => &self.at.c_proj,
            Module::Fc => &self.at.c_fc,
            Module::MlpProj => &self.at.mlp_c_proj,
        }
    }

    /// The adapter of a module, and all parameters of adapters.
    fn part(&self, module: Module) -> Option<(&'a LoraPart, &'a [f32])> {
        let lora = self.lora?;
        Some((lora.layout.blocks[self.layer][module as usize].as_ref()?, lora.params))
    }

    fn linear(&self, out: &mut [f32], x: &[f32], module: Module, low: &mut [Vec<f32>; N_MODULES]) {
        linear(out, x, self.params, self.affine(module));
        if let Some((part, params)) = self.part(module) {
            part.forward(out, x, params, &mut low[module as usize]);
        }
    }

    /// The gradient of [`Self::linear`], by the module's parameters, or by its adapter's where one learns.
    #[allow(clippy::too_many_arguments)] // no two of them belong together
    fn linear_backward(
        &self,
        dx: &mut [f32],
        grads: &mut [f32],
        dy: &[f32],
        x: &[f32],
        module: Module,
        low: &[Vec<f32>; N_MODULES],
        d_low: &mut Vec<f32>,
    ) {
        let at = self.affine(module);
        if self.lora.is_none() {
            return linear_backward(dx, grads, dy, x, self.params, at);
        }
        linear_backward_frozen(dx, dy, self.params, at);
        if let Some((part, params)) = self.part(module) {
            part.backward(dx, grads, dy, x, params, &low[module as usize], d_low);
        }
    }

    fn norm_backward(&self, dx: &mut [f32], grads: &mut [f32], dy: &[f32], x: &[f32], at: &Affine, stats: &RowStats) {
        match self.lora {
            None => norm_backward(dx, grads, dy, x, self.params, at, stats),
            Some(_) => norm_backward_frozen(dx, dy, x, self.params, at, stats),
        }
    }

    /// x: [N, C] → out: [N, C]
    pub fn forward(&self, out: &mut [f32], x: &[f32], acts: &mut BlockActs, scratch: &mut BlockScratch) {
        let (at, params, c) = (self.at, self.params, self.c());
        let (n, t) = (x.len() / c, self.n_tokens);
        let inner = at.c_fc.bias.len();

        norm(sized(&mut acts.normed_1, n * c), x, params, &at.ln_1, self.epsilon, &mut acts.stats_1);
        self.linear(sized(&mut acts.qkv, n * 3 * c), &acts.normed_1, Module::Attn, &mut acts.low);
        sized(&mut acts.attended, n * c);
        sized(&mut acts.lse, n * self.n_head);
        for row in 0..n / t {
            let attended = &mut acts.attended[row * t * c..][..t * c];
            let lse = &mut acts.lse[row * t * self.n_head..][..t * self.n_head];
            let qkv = &acts.qkv[row * t * 3 * c..][..t * 3 * c];
            self.heads(row).forward(attended, lse, qkv, &mut scratch.attention);
        }
        let middle = sized(&mut acts.middle, n * c);
        self.linear(middle, &acts.attended, Module::Proj, &mut acts.low);
        self.drop(middle, Site::AttentionResidual(self.layer));
        vectorised(
            #[inline(always)]
            || add(middle, x),
        );

        norm(sized(&mut acts.normed_2, n * c), &acts.middle, params, &at.ln_2, self.epsilon, &mut acts.stats_2);
        self.linear(sized(&mut acts.inner, n * inner), &acts.normed_2, Module::Fc, &mut acts.low);
        activate(self.activation, sized(&mut acts.activated, n * inner), &acts.inner);
        self.linear(out, &acts.activated, Module::MlpProj, &mut acts.low);
        self.drop(out, Site::MlpResidual(self.layer));
        vectorised(
            #[inline(always)]
            || add(out, &acts.middle),
        );
    }

    /// The gradient of [`Self::forward`]. `d` holds the gradient of its result, and after it that of `x`; the parameters'
    /// gradients, or the adapter's, are added to.
    pub fn backward(
        &self,
        d: &mut [f32],
        grads: &mut [f32],
        x: &[f32],
        acts: &BlockActs,
        scratch: &mut BlockScratch,
        factors: Option<&mut FactorGradients>,
    ) {
        let (at, c) = (self.at, self.c());
        let (n, t) = (x.len() / c, self.n_tokens);
        let inner = at.c_fc.bias.len();
        let BlockScratch { attention, d_inner, d_qkv, d_attended, d_normed, d_branch, d_low } = scratch;
        let (d_inner, d_normed) = (sized(d_inner, n * inner), sized(d_normed, n * c));
        let (d_qkv, d_attended) = (sized(d_qkv, n * 3 * c), sized(d_attended, n * c));

        let branch = self.dropped(d, d_branch, Site::MlpResidual(self.layer));
        self.linear_backward(d_inner, grads, branch, &acts.activated, Module::MlpProj, &acts.low, d_low);
        let mut factors = factors;
        if let Some(factors) = &mut factors {
            for (activated, d) in acts.activated.chunks_exact(inner).zip(d_inner.chunks_exact(inner)) {
                for ((sum, a), d) in factors.neurons[self.layer].iter_mut().zip(activated).zip(d) {
                    *sum += f64::from(a * d);
                }
            }
        }
        activate_backward(self.activation, d_inner, &acts.inner);
        self.linear_backward(d_normed, grads, d_inner, &acts.normed_2, Module::Fc, &acts.low, d_low);
        self.norm_backward(d, grads, d_normed, &acts.middle, &at.ln_2, &acts.stats_2);

        let branch = self.dropped(d, d_branch, Site::AttentionResidual(self.layer));
        self.linear_backward(d_attended, grads, branch, &acts.attended, Module::Proj, &acts.low, d_low);
        if let Some(factors) = &mut factors {
            let width = c / self.n_head;
            for (i, (a, d)) in acts.attended.chunks_exact(width).zip(d_attended.chunks_exact(width)).enumerate() {
                factors.heads[self.layer][i % self.n_head] += f64::from(dot(a, d));
            }
        }
        for row in 0..n / t {
            let tokens = row * t * c..(row + 1) * t * c;
            let wide = row * t * 3 * c..(row + 1) * t * 3 * c;
            let lse = &acts.lse[row * t * self.n_head..][..t * self.n_head];
            self.heads(row).backward(
                &mut d_qkv[wide.clone()],
                &d_attended[tokens.clone()],
                &acts.attended[tokens],
                lse,
                &acts.qkv[wide],
                attention,
            );
        }
        self.linear_backward(d_normed, grads, d_qkv, &acts.normed_1, Module::Attn, &acts.low, d_low);
        self.norm_backward(d, grads, d_normed, x, &at.ln_1, &acts.stats_1);
    }

    /// The gradient of what went through a mask: `d` itself where there is none.
    fn dropped<'b>(&self, d: &'b [f32], copy: &'b mut Vec<f32>, site: Site) -> &'b [f32] {
        match self.dropout {
            None => d,
            Some(_) => {
                copy.clear();
                copy.extend_from_slice(d);
                self.drop(copy, site);
                copy
            }
        }
    }
}
