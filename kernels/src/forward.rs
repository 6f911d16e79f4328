//! One forward pass: token ids in, logits out, every matrix read once.
//!
//! ```text
//! x = wte[id] + wpe[n]
//! per block: LN -> c_attn | attention per head | x += c_proj | LN -> c_fc -> GELU | x += mlp.c_proj      (| = barrier)
//! LN -> head
//! ```
//!
//! What lies between two barriers is a stage. All that one leaves for the next is in the scratch and the cache, so a
//! pass can be left after any of them and gone on with later: that is how a page stays alive while it reads a prompt.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytemuck::cast_slice;

use crate::activations::Activations;
use crate::cache::{Cache, Head, padded_dim};
use crate::format::{Dtype, unpack_row};
use crate::layout::{Activation, Block, GROUP, Matrix, Norm};
use crate::model::Model;
use crate::norm::{activate, layer_norm};
use crate::product::{Weights, Widened, product};
use crate::scratch::{Own, Scratch};
use crate::simd::F32x4;
use crate::team::{Barrier, Platform, Shared, share};

/// Most tokens of one pass: what the scratch is made for. With more of them the weights are read less often, and with as
/// many as this the activations still lie in the second-level cache.
pub const MAX_TOKENS: usize = 64;

/// Tokens of one stage of the head, which is as much work for each as several blocks.
const HEAD_TOKENS: usize = 8;

/// For which of the new positions logits are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// None
    #[default]
    None,
    /// The last one
    Last,
    /// All
    All,
}

/// The parts of a pass, as a profile tells them apart. Each has its LayerNorm and the packing of its input with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Op {
    /// `x = wte[id] + wpe[n]`
    Embed,
    /// `ln_1` and `attn.c_attn`
    Qkv,
    /// Storing keys and values, scores, softmax, values
    Attention,
    /// `attn.c_proj` and the residual
    Proj,
    /// `ln_2`, `mlp.c_fc` and the nonlinearity
    Fc,
    /// `mlp.c_proj` and the residual
    Proj2,
    /// `ln_f` and the head
    Head,
}

impl Op {
    /// Every part, in order.
    pub const ALL: [Self; 7] = [Self::Embed, Self::Qkv, Self::Attention, Self::Proj, Self::Fc, Self::Proj2, Self::Head];
    /// Those of a block, in order.
    const BLOCK: [Self; 5] = [Self::Qkv, Self::Attention, Self::Proj, Self::Fc, Self::Proj2];
}

/// A pass under way, seen alike by every member of the team.
pub struct Pass<'a> {
    model: &'a Model,
    ids: &'a [u32],
    /// Tokens in the cache before this pass.
    n_past: usize,
    rows: Rows,
    /// [n_layer, H]
    cache: Shared<'a, Head>,
    x: Shared<'a, [f32; 4]>,
    qkv: Shared<'a, [f32; 4]>,
    heads: Shared<'a, [f32; 4]>,
    hidden: Shared<'a, [f32; 4]>,
    own: Shared<'a, Own>,
    /// [rows, V'/4]
    logits: Shared<'a, [f32; 4]>,
    /// [n_layer, H, T, S], or empty
    attentions: Shared<'a, f32>,
    barrier: &'a Barrier,
    n_members: usize,
    /// The stage that a run begins with.
    from: usize,
    /// The stage after which the leader wants to pause.
    pause_after: AtomicUsize,
}

/// No stage has this number.
const NEVER: usize = usize::MAX;

impl<'a> Pass<'a> {
    /// Prepares a pass of at most [`MAX_TOKENS`] ids, which the caller has checked against vocabulary and context window,
    /// or the rest of one, from stage `from` on. logits: [rows, V'/4]; attentions: [n_layer, H, T, S] or empty
    #[allow(clippy::too_many_arguments)] // it is one call, and each is a thing of its own
    pub fn new(
        model: &'a Model,
        scratch: &'a mut Scratch,
        cache: &'a mut Cache,
        ids: &'a [u32],
        rows: Rows,
        logits: &'a mut [[f32; 4]],
        attentions: &'a mut [f32],
        barrier: &'a Barrier,
        from: usize,
    ) -> Self {
        let n_past = cache.n_tokens();
        cache.reserve(ids.len());
        Self {
            model,
            ids,
            n_past,
            rows,
            n_members: scratch.own.len(),
            cache: Shared::new(cache.heads_mut()),
            x: Shared::new(&mut scratch.x),
            qkv: Shared::new(&mut scratch.qkv),
            heads: Shared::new(&mut scratch.heads),
            hidden: Shared::new(&mut scratch.hidden),
            own: Shared::new(&mut scratch.own),
            logits: Shared::new(logits),
            attentions: Shared::new(attentions),
            barrier,
            from,
            pause_after: AtomicUsize::new(NEVER),
        }
    }

    /// How many members the team has.
    pub fn n_members(&self) -> usize {
        self.n_members
    }

    /// Where to go on after a run that paused; `None` after one that did not.
    pub fn paused_before(&self) -> Option<usize> {
        let stage = self.pause_after.load(SeqCst);
        (stage != NEVER).then(|| stage + 1)
    }

    /// Does the work of one member; returns when the whole pass is done, or when the leader wants to pause. Every member
    /// must call it once.
    pub fn run<F: Platform>(&self, member: usize) {
        // SAFETY: each member takes its own
        let [own] = (unsafe { self.own.get_mut(member..member + 1) }) else { return };
        let n_stages = self.n_stages();
        for stage in self.from..n_stages {
            let op = self.stage(member, own, stage);
            let is_last = stage + 1 == n_stages;
            if member == 0 && !is_last && F::should_pause() {
                // by its number, since who is slow to look may find what the leader says after the next one
                self.pause_after.store(stage, SeqCst);
            }
            self.barrier.wait::<F>(self.n_members);
            if member == 0 {
                F::done(op);
            }
            if self.pause_after.load(SeqCst) == stage {
                return;
            }
        }
    }

    /// Embedding, five of each block, and as many of the head as its rows take.
    fn n_stages(&self) -> usize {
        1 + Op::BLOCK.len() * self.model.dims().n_layer + self.head_tokens().len().div_ceil(HEAD_TOKENS)
    }

    /// One stage, by its number.
    fn stage(&self, member: usize, own: &mut Own, stage: usize) -> Op {
        let Some(n) = stage.checked_sub(1) else {
            self.embed(member);
            return Op::Embed;
        };
        let (layer, op) = (n / Op::BLOCK.len(), Op::BLOCK[n % Op::BLOCK.len()]);
        let blocks = &self.model.layout().blocks;
        match blocks.get(layer) {
            Some(block) => {
                self.block(member, own, layer, block, op);
                op
            }
            None => {
                self.head(member, own, n - Op::BLOCK.len() * blocks.len());
                Op::Head
            }
        }
    }

    /// Columns padded to whole vectors, in vectors.
    fn lines(n: usize) -> usize {
        n.div_ceil(GROUP)
    }

    /// `x = wte[id] + wpe[n]`, the tokens shared out.
    fn embed(&self, member: usize) {
        let (layout, image, c) = (self.model.layout(), self.model.image(), self.model.dims().n_embd);
        let wte = &layout.wte;
        let lines = Self::lines(c);
        let wpe: &[f32] = cast_slice(&image[layout.wpe.clone()]);
        for t in share(self.ids.len(), member, self.n_members) {
            // SAFETY: each member has its own tokens
            let x: &mut [f32] = unsafe { self.x.get_mut(t * lines..(t + 1) * lines) }.as_flattened_mut();
            embedding(wte, image, self.ids[t] as usize, &mut x[..c]);
            for (x, p) in x.iter_mut().zip(&wpe[(self.n_past + t) * c..][..c]) {
                *x += p;
            }
        }
    }

    /// The tokens that an op of a block is done for: of the last block's output, only what the logits need is computed.
    fn tokens(&self, layer: usize, op: Op) -> Range<usize> {
        let is_needed = match op {
            Op::Embed | Op::Qkv | Op::Head => true,
            Op::Attention => !self.attentions.is_empty(),
            Op::Proj | Op::Fc | Op::Proj2 => false,
        };
        if is_needed || layer + 1 < self.model.dims().n_layer { 0..self.ids.len() } else { self.head_tokens() }
    }

    fn block(&self, member: usize, own: &mut Own, layer: usize, block: &Block, op: Op) {
        let dims = self.model.dims();
        let tokens = self.tokens(layer, op);
        let Own { narrow, wide, widened, .. } = own;
        match op {
            Op::Embed | Op::Head => {}
            Op::Qkv => {
                self.norm(&block.ln_1, narrow, block.c_attn.dtype, tokens.clone());
                self.write(member, &block.c_attn, narrow, widened, tokens, self.qkv, |y, _| y);
            }
            Op::Attention => {
                for head in share(dims.n_head, member, self.n_members) {
                    self.attend(own, layer, head, tokens.clone());
                }
            }
            Op::Proj => {
                self.gather_heads(narrow, block.c_proj.dtype, tokens.clone());
                self.write(member, &block.c_proj, narrow, widened, tokens, self.x, |y, x| x + y);
            }
            Op::Fc => {
                self.norm(&block.ln_2, narrow, block.c_fc.dtype, tokens.clone());
                self.write(member, &block.c_fc, narrow, widened, tokens.clone(), self.hidden, |y, _| y);
                self.bend(member, tokens);
            }
            Op::Proj2 => {
                self.gather_hidden(wide, block.mlp_c_proj.dtype, tokens.clone());
                self.write(member, &block.mlp_c_proj, wide, widened, tokens, self.x, |y, x| x + y);
            }
        }
    }

    /// LayerNorm of rows of x; every member does all of them for itself, which costs less than to wait for another.
    fn norm(&self, norm: &Norm, into: &mut Activations, dtype: Dtype, tokens: Range<usize>) {
        let (image, dims) = (self.model.image(), self.model.dims());
        let (weight, bias) = (cast_slice(&image[norm.weight.clone()]), cast_slice(&image[norm.bias.clone()]));
        let lines = Self::lines(dims.n_embd);
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            // SAFETY: nobody writes x before the next barrier
            let x: &[f32] = unsafe { self.x.get(t * lines..(t + 1) * lines) }.as_flattened();
            into.set(i, dtype, |out| layer_norm(&x[..dims.n_embd], weight, bias, dims.layer_norm_epsilon, out));
        }
    }

    /// This member's rows of the product of some tokens, written to `out` as `f(y, what is there)`. out: [T, R'/4]
    #[allow(clippy::too_many_arguments)] // as for `new`
    fn write(
        &self,
        member: usize,
        matrix: &Matrix,
        x: &Activations,
        widened: &mut Widened,
        tokens: Range<usize>,
        out: Shared<[f32; 4]>,
        f: impl Fn(F32x4, F32x4) -> F32x4,
    ) {
        let n_groups = matrix.n_rows_padded() / GROUP;
        let weights = Weights::new(matrix, self.model.image());
        if tokens.is_empty() {
            return;
        }
        product(&weights, x, widened, share(n_groups, member, self.n_members), |group, i, y| {
            let at = (tokens.start + i) * n_groups + group;
            // SAFETY: each member has its own groups of rows, and nobody reads them before the next barrier
            if let [line] = unsafe { out.get_mut(at..at + 1) } {
                f(y, F32x4::load(line)).store(line);
            }
        });
    }

    /// Causal attention of one head: stores the new keys and values, then `tokens` look back.
    fn attend(&self, own: &mut Own, layer: usize, head: usize, tokens: Range<usize>) {
        let dims = self.model.dims();
        let (c, d, n_new) = (dims.n_embd, dims.head_dim(), self.ids.len());
        let (d_lines, n_keys_all) = (padded_dim(d) / 4, self.n_past + n_new);
        let lines = Self::lines(3 * c);
        // SAFETY: each member has its own heads
        let [cache] = (unsafe { self.cache.get_mut(layer * dims.n_head + head..layer * dims.n_head + head + 1) })
        else {
            return;
        };
        let part = |t: usize, which: usize| {
            // SAFETY: nobody writes `qkv` before the next barrier
            let qkv: &[f32] = unsafe { self.qkv.get(t * lines..(t + 1) * lines) }.as_flattened();
            &qkv[which * c + head * d..][..d]
        };
        for t in 0..n_new {
            cache.put(self.n_past + t, part(t, 1), part(t, 2));
        }
        for t in tokens {
            let n_keys = self.n_past + t + 1;
            own.query.set(part(t, 0), dims.attn_scale(layer));
            own.scores.resize(n_keys, 0.0);
            cache.scores(&own.query, &mut own.scores);
            softmax(&mut own.scores);
            if !self.attentions.is_empty() {
                let at = ((layer * dims.n_head + head) * n_new + t) * n_keys_all;
                // SAFETY: each head's weights are its own
                unsafe { self.attentions.get_mut(at..at + n_keys) }.copy_from_slice(&own.scores);
            }
            let at = (head * n_new + t) * d_lines;
            // SAFETY: each head's output is its own
            let out = unsafe { self.heads.get_mut(at..at + d_lines) };
            out.fill([0.0; 4]);
            cache.add_values(&own.scores, out);
        }
    }

    /// The heads' outputs side by side: [H, T, D] → [T, C]
    fn gather_heads(&self, into: &mut Activations, dtype: Dtype, tokens: Range<usize>) {
        let (n_head, d, n_new) = (self.model.dims().n_head, self.model.dims().head_dim(), self.ids.len());
        let d_lines = padded_dim(d) / 4;
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            into.set(i, dtype, |vector| {
                for (head, vector) in vector[..n_head * d].chunks_exact_mut(d).enumerate() {
                    let at = (head * n_new + t) * d_lines;
                    // SAFETY: nobody writes `heads` before the next barrier
                    let out: &[f32] = unsafe { self.heads.get(at..at + d_lines) }.as_flattened();
                    vector.copy_from_slice(&out[..d]);
                }
            });
        }
    }

    /// The nonlinearity, over what this member has written of the hidden layer. Row by row, because it is a long chain of
    /// operations, of which a processor does several at a time where they follow one another.
    fn bend(&self, member: usize, tokens: Range<usize>) {
        let dims = self.model.dims();
        let n_lines = Self::lines(dims.n_inner);
        let own = share(n_lines, member, self.n_members);
        for t in tokens {
            // SAFETY: these rows are this member's, as they were in `write`
            bend_row(dims.activation, unsafe { self.hidden.get_mut(t * n_lines + own.start..t * n_lines + own.end) });
        }
    }

    /// The MLP's hidden layer, as it is: [T, n_inner]
    fn gather_hidden(&self, into: &mut Activations, dtype: Dtype, tokens: Range<usize>) {
        let n = self.model.dims().n_inner;
        let lines = Self::lines(n);
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            // SAFETY: nobody writes `hidden` before the next barrier
            let hidden: &[f32] = unsafe { self.hidden.get(t * lines..(t + 1) * lines) }.as_flattened();
            into.set(i, dtype, |vector| vector[..n].copy_from_slice(&hidden[..n]));
        }
    }

    /// The tokens for which the head is computed.
    fn head_tokens(&self) -> Range<usize> {
        let n_new = self.ids.len();
        match self.rows {
            Rows::None => n_new..n_new,
            Rows::Last => n_new - 1..n_new,
            Rows::All => 0..n_new,
        }
    }

    /// The head, for part `part` of its tokens.
    fn head(&self, member: usize, own: &mut Own, part: usize) {
        let layout = self.model.layout();
        let all = self.head_tokens();
        let first = all.start + part * HEAD_TOKENS;
        let tokens = first..all.end.min(first + HEAD_TOKENS);
        let rows = tokens.start - all.start..tokens.end - all.start;
        self.norm(&layout.ln_f, &mut own.narrow, layout.head().dtype, tokens);
        self.write(member, layout.head(), &own.narrow, &mut own.widened, rows, self.logits, |y, _| y);
    }
}

/// Row `id` of an embedding. out: \[C\]
fn embedding(wte: &Matrix, image: &[u8], id: usize, out: &mut [f32]) {
    let (group, row) = (id / GROUP, id % GROUP);
    let quants = &image[wte.quants.clone()][group * wte.group_bytes()..][..wte.group_bytes()];
    let scales: &[f32] = cast_slice(&image[wte.row_scales.clone()]);
    // the embedding is never q4: see `Layout`
    unpack_row(wte.dtype, cast_slice(quants), &[], scales.get(id).copied().unwrap_or(1.0), row, out);
}

/// The nonlinearity, in place. (Not inlined: see `product::dot_one`.)
#[inline(never)]
fn bend_row(activation: Activation, x: &mut [[f32; 4]]) {
    for x in x {
        activate(activation, F32x4::load(x)).store(x);
    }
}

/// Softmax in place. (Not inlined: see `product::dot_one`.)
#[inline(never)]
fn softmax(x: &mut [f32]) {
    // subtract the maximum so exp() cannot overflow
    let (lanes, rest) = x.as_chunks::<4>();
    let lowest = F32x4::splat(f32::NEG_INFINITY);
    let max = lanes.iter().fold(lowest, |max, x| max.max(F32x4::load(x))).lanes();
    let max = F32x4::splat(max.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| max.max(x)));
    let (lanes, rest) = x.as_chunks_mut::<4>();
    let mut sums = F32x4::splat(0.0);
    for x in lanes.iter_mut() {
        let e = (F32x4::load(x) - max).exp();
        e.store(x);
        sums = sums + e;
    }
    let mut sum = sums.lanes().into_iter().sum::<f32>();
    for x in rest.iter_mut() {
        let [e, ..] = (F32x4::splat(*x) - max).exp().lanes();
        *x = e;
        sum += e;
    }
    let inverse = F32x4::splat(1.0 / sum);
    for x in lanes {
        (F32x4::load(x) * inverse).store(x);
    }
    for x in rest {
        *x /= sum;
    }
}
