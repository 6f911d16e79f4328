//! The whole model, forwards and backwards, over some rows of tokens on one thread.

use web_time::{Duration, Instant};

use gpt2_web::checkpoint::Config;

use super::block::{BlockActs, BlockPass, BlockScratch, FactorGradients};
use super::dropout::{Rates, RowDropout, Site};
use super::head::{HeadGradients, HeadScratch, Sums, TeacherRows, loss};
use super::lora::Lora;
use super::math::{View, ViewMut, Write, add, product, vectorised};
use super::pointwise::{RowStats, norm, norm_backward, norm_backward_frozen};
use crate::layout::Layout;

/// A model's shape, without its parameters.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its configuration.
    pub config: Config,
    /// Where each parameter is.
    pub layout: Layout,
    /// What is dropped while it learns.
    pub rates: Rates,
}

/// Rows of tokens of one length, and what should follow each token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// [R, T], each below the vocabulary's size.
    pub ids: &'a [u32],
    /// [R, T]; `NO_LABEL` where there is no loss.
    pub labels: &'a [i32],
    /// T
    pub n_tokens: usize,
}

/// Where the time of a step goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Embeddings and blocks, forwards; and again where they are not kept.
    pub forward: Duration,
    /// The head, its loss and their gradients.
    pub head: Duration,
    /// Blocks and embeddings, backwards.
    pub backward: Duration,
}

/// Everything that one thread needs beside parameters and gradients; kept from step to step.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The residual stream before each block and after the last, [N, C] each.
    stream: Vec<Vec<f32>>,
    /// One for each block, or one for all where activations are computed again.
    acts: Vec<BlockActs>,
    block: BlockScratch,
    head: HeadScratch,
    stats: RowStats,
    hidden: Vec<f32>,
    d_hidden: Vec<f32>,
    d: Vec<f32>,
    /// Where its time went.
    pub phases: Phases,
}

/// How a pass is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassOptions<'a> {
    /// Keep only each block's input and compute the rest again on the way back (Chen et al. 2016).
    pub recompute: bool,
    /// The masks of each row.
    pub dropout: Option<&'a [RowDropout]>,
    /// What the same rows look like to a teacher.
    pub teacher: Option<TeacherRows<'a>>,
    /// An adapter, which learns in the place of the model's own parameters.
    pub lora: Option<Lora<'a>>,
}

impl Model {
    /// A model of this configuration.
    pub fn new(config: Config, rates: Rates) -> Self {
        Self { layout: Layout::new(&config), config, rates }
    }

    fn block<'a>(
        &'a self,
        params: &'a [f32],
        layer: usize,
        n_tokens: usize,
        options: &PassOptions<'a>,
    ) -> BlockPass<'a> {
        BlockPass::new(&self.config, &self.layout.blocks[layer], params, layer, n_tokens, options.dropout, options.lora)
    }

    /// The last hidden states after the last norm: [N, C].
    pub fn hidden<'w>(&self, params: &[f32], ids: &[u32], n_tokens: usize, space: &'w mut Workspace) -> &'w [f32] {
        self.hidden_with(params, None, ids, n_tokens, space)
    }

    /// The same, with an adapter.
    pub fn hidden_with<'w>(
        &self,
        params: &[f32],
        lora: Option<Lora>,
        ids: &[u32],
        n_tokens: usize,
        space: &'w mut Workspace,
    ) -> &'w [f32] {
        let options = PassOptions { recompute: true, lora, ..PassOptions::default() };
        self.forward(params, ids, n_tokens, &options, space);
        &space.hidden
    }

    /// Logits of every token, [N, V].
    pub fn logits(&self, params: &[f32], ids: &[u32], n_tokens: usize, space: &mut Workspace) -> Vec<f32> {
        let (v, c) = (self.config.vocab_size, self.config.n_embd);
        let mut logits = vec![0.0; ids.len() * v];
        let hidden = View::new(self.hidden(params, ids, n_tokens, space), ids.len(), c);
        let head = View::new(&params[self.layout.head.clone()], v, c).t();
        product(ViewMut::new(&mut logits, ids.len(), v), Write::Replace, 1.0, hidden, head);
        logits
    }

    /// The loss of some rows, without gradients.
    pub fn loss(
        &self,
        params: &[f32],
        rows: Rows,
        teacher: Option<TeacherRows>,
        lora: Option<Lora>,
        space: &mut Workspace,
    ) -> Sums {
        self.hidden_with(params, lora, rows.ids, rows.n_tokens, space);
        let head = &params[self.layout.head.clone()];
        loss(&space.hidden, head, rows.labels, teacher, None, &mut space.head)
    }

    /// The loss of some rows; adds its gradients by the model's parameters, or by the adapter's if there is one, divided
    /// by `n_labels`, to `grads`, and those by factors on heads and
    /// neurons to `factors`.
    #[allow(clippy::too_many_arguments)] // what is read, where it goes, and where it is computed
    pub fn gradients(
        &self,
        params: &[f32],
        grads: &mut [f32],
        rows: Rows,
        n_labels: usize,
        options: &PassOptions,
        mut factors: Option<&mut FactorGradients>,
        space: &mut Workspace,
    ) -> Sums {
        let began = Instant::now();
        self.forward(params, rows.ids, rows.n_tokens, options, space);
        space.phases.forward += began.elapsed();

        let began = Instant::now();
        let c = self.config.n_embd;
        space.d_hidden.resize(rows.ids.len() * c, 0.0);
        let into = HeadGradients {
            hidden: &mut space.d_hidden,
            head: options.lora.is_none().then(|| &mut grads[self.layout.head.clone()]),
            share: 1.0 / n_labels as f32,
        };
        let head = &params[self.layout.head.clone()];
        let sums = loss(&space.hidden, head, rows.labels, options.teacher, Some(into), &mut space.head);
        space.phases.head += began.elapsed();

        let began = Instant::now();
        let Workspace { stream, acts, block: scratch, stats, d_hidden, d, .. } = space;
        d.clear();
        d.resize(rows.ids.len() * c, 0.0);
        let n_layer = self.config.n_layer;
        match options.lora {
            None => norm_backward(d, grads, d_hidden, &stream[n_layer], params, &self.layout.ln_f, stats),
            Some(_) => norm_backward_frozen(d, d_hidden, &stream[n_layer], params, &self.layout.ln_f, stats),
        }
        let mut again = Duration::ZERO;
        for layer in (0..n_layer).rev() {
            let block = self.block(params, layer, rows.n_tokens, options);
            let kept = if options.recompute { 0 } else { layer };
            if options.recompute {
                let began = Instant::now();
                let (before, after) = stream.split_at_mut(layer + 1);
                block.forward(&mut after[0], &before[layer], &mut acts[0], scratch);
                again += began.elapsed();
            }
            block.backward(d, grads, &stream[layer], &acts[kept], scratch, factors.as_deref_mut());
        }
        if options.lora.is_none() {
            self.embed_backward(d, grads, rows, options);
        }
        space.phases.forward += again;
        space.phases.backward += began.elapsed() - again;
        sums
    }

    /// Fills the stream, the activations and the hidden states.
    fn forward(&self, params: &[f32], ids: &[u32], n_tokens: usize, options: &PassOptions, space: &mut Workspace) {
        let (c, n_layer) = (self.config.n_embd, self.config.n_layer);
        let n = ids.len() * c;
        space.stream.resize_with(n_layer + 1, Vec::new);
        space.acts.resize_with(if options.recompute { 1 } else { n_layer }, BlockActs::default);
        for stream in &mut space.stream {
            stream.resize(n, 0.0);
        }
        let (wte, wpe) = (&params[self.layout.wte.clone()], &params[self.layout.wpe.clone()]);
        for (i, (x, &id)) in space.stream[0].chunks_exact_mut(c).zip(ids).enumerate() {
            let (token, position) = (&wte[id as usize * c..][..c], &wpe[i % n_tokens * c..][..c]);
            for (x, (token, position)) in x.iter_mut().zip(token.iter().zip(position)) {
                *x = token + position;
            }
        }
        drop_embedding(&mut space.stream[0], n_tokens * c, options);
        for layer in 0..n_layer {
            let block = self.block(params, layer, n_tokens, options);
            let kept = if options.recompute { 0 } else { layer };
            let (before, after) = space.stream.split_at_mut(layer + 1);
            block.forward(&mut after[0], &before[layer], &mut space.acts[kept], &mut space.block);
        }
        space.hidden.resize(n, 0.0);
        let epsilon = self.config.layer_norm_epsilon as f32;
        norm(&mut space.hidden, &space.stream[n_layer], params, &self.layout.ln_f, epsilon, &mut space.stats);
    }

    fn embed_backward(&self, d: &mut [f32], grads: &mut [f32], rows: Rows, options: &PassOptions) {
        let c = self.config.n_embd;
        drop_embedding(d, rows.n_tokens * c, options);
        vectorised(
            #[inline(always)]
            || {
                for (i, (d, &id)) in d.chunks_exact(c).zip(rows.ids).enumerate() {
                    add(&mut grads[self.layout.wte.start + id as usize * c..][..c], d);
                    add(&mut grads[self.layout.wpe.start + i % rows.n_tokens * c..][..c], d);
                }
            },
        );
    }
}

fn drop_embedding(values: &mut [f32], row_len: usize, options: &PassOptions) {
    for (values, row) in values.chunks_exact_mut(row_len).zip(options.dropout.unwrap_or_default()) {
        if let Some(mask) = row.mask(Site::Embedding) {
            mask.apply(values, 0);
        }
    }
}
