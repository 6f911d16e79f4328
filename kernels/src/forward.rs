//! One forward pass: token ids in, logits out, every matrix read once.
//!
//! ```text
//! x = wte[id] + wpe[n]
//! per block: LN -> c_attn | attention per head | x += c_proj | LN -> c_fc -> GELU | x += mlp.c_proj      (| = barrier)
//! LN -> head
//! ```

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::cast_slice;

use crate::activations::Activations;
use crate::cache::{Cache, Head, Query, padded_dim};
use crate::format::{Dtype, unpack_row};
use crate::layout::{Block, Dims, GROUP, Matrix, Norm};
use crate::model::Model;
use crate::norm::{activate, layer_norm};
use crate::product::{Weights, Widened, product};
use crate::simd::F32x4;
use crate::team::{Barrier, Futex, Shared, share};

/// Most tokens of one pass: what the scratch is made for.
pub const MAX_TOKENS: usize = 64;

/// For which of the new positions logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// None
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
}

/// What the members share and write by turns; rows are padded to whole vectors.
pub struct Scratch {
    /// The residual stream: [T, C'/4]
    x: Vec<[f32; 4]>,
    /// [T, (3C)'/4]
    qkv: Vec<[f32; 4]>,
    /// Outputs of the heads: [H, T, D'/4]
    heads: Vec<[f32; 4]>,
    /// [T, n_inner'/4]
    hidden: Vec<[f32; 4]>,
    own: Vec<Own>,
}

/// What each member has for itself.
struct Own {
    /// [T, C]
    narrow: Activations,
    /// [T, n_inner]
    wide: Activations,
    widened: Widened,
    query: Query,
    scores: Vec<f32>,
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
}

impl<'a> Pass<'a> {
    /// Prepares a pass of at most [`MAX_TOKENS`] ids, which the caller has checked against vocabulary and context window.
    /// logits: [rows, V'/4]; attentions: [n_layer, H, T, S] or empty
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
        }
    }

    /// How many members the team has.
    pub fn n_members(&self) -> usize {
        self.n_members
    }

    /// Does the work of one member; returns when the whole pass is done. Every member must call it once.
    pub fn run<F: Futex>(&self, member: usize) {
        // SAFETY: each member takes its own
        let [own] = (unsafe { self.own.get_mut(member..member + 1) }) else { return };
        own.narrow.set_n_tokens(self.ids.len());
        own.wide.set_n_tokens(self.ids.len());
        self.embed(member);
        self.meet::<F>(member, Op::Embed);
        for (layer, block) in self.model.layout().blocks.iter().enumerate() {
            self.block::<F>(member, own, layer, block);
        }
        self.head(member, own);
        self.meet::<F>(member, Op::Head);
    }

    /// Waits until everybody is done with `op`.
    fn meet<F: Futex>(&self, member: usize, op: Op) {
        self.barrier.wait::<F>(self.n_members);
        if member == 0 {
            F::done(op);
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

    fn block<F: Futex>(&self, member: usize, own: &mut Own, layer: usize, block: &Block) {
        let dims = self.model.dims();
        // c_attn
        self.norm(&block.ln_1, &mut own.narrow, block.c_attn.dtype, 0..self.ids.len());
        self.write(member, &block.c_attn, &own.narrow, &mut own.widened, self.qkv, |y, _| y);
        self.meet::<F>(member, Op::Qkv);
        for head in share(dims.n_head, member, self.n_members) {
            self.attend(own, layer, head);
        }
        self.meet::<F>(member, Op::Attention);
        // c_proj
        self.gather_heads(&mut own.narrow, block.c_proj.dtype);
        self.write(member, &block.c_proj, &own.narrow, &mut own.widened, self.x, |y, x| x + y);
        self.meet::<F>(member, Op::Proj);
        // the MLP
        self.norm(&block.ln_2, &mut own.narrow, block.c_fc.dtype, 0..self.ids.len());
        let bend = |y, _| activate(dims.activation, y);
        self.write(member, &block.c_fc, &own.narrow, &mut own.widened, self.hidden, bend);
        self.meet::<F>(member, Op::Fc);
        let lines = Self::lines(dims.n_inner);
        for t in 0..self.ids.len() {
            // SAFETY: nobody writes `hidden` before the next barrier
            let hidden: &[f32] = unsafe { self.hidden.get(t * lines..(t + 1) * lines) }.as_flattened();
            let n = dims.n_inner;
            own.wide.set(t, block.mlp_c_proj.dtype, |vector| vector[..n].copy_from_slice(&hidden[..n]));
        }
        self.write(member, &block.mlp_c_proj, &own.wide, &mut own.widened, self.x, |y, x| x + y);
        self.meet::<F>(member, Op::Proj2);
    }

    /// LayerNorm of rows of x; every member does all of them for itself, which costs less than to wait for another.
    fn norm(&self, norm: &Norm, into: &mut Activations, dtype: Dtype, tokens: Range<usize>) {
        let (image, dims) = (self.model.image(), self.model.dims());
        let (weight, bias) = (cast_slice(&image[norm.weight.clone()]), cast_slice(&image[norm.bias.clone()]));
        let lines = Self::lines(dims.n_embd);
        for (i, t) in tokens.enumerate() {
            // SAFETY: nobody writes x before the next barrier
            let x: &[f32] = unsafe { self.x.get(t * lines..(t + 1) * lines) }.as_flattened();
            into.set(i, dtype, |out| layer_norm(&x[..dims.n_embd], weight, bias, dims.layer_norm_epsilon, out));
        }
    }

    /// This member's rows of a product, written to `out` as `f(y, what is there)`. out: [T, R'/4]
    fn write(
        &self,
        member: usize,
        matrix: &Matrix,
        x: &Activations,
        widened: &mut Widened,
        out: Shared<[f32; 4]>,
        f: impl Fn(F32x4, F32x4) -> F32x4,
    ) {
        let n_groups = matrix.n_rows_padded() / GROUP;
        let weights = Weights::new(matrix, self.model.image());
        product(&weights, x, widened, share(n_groups, member, self.n_members), |group, t, y| {
            let at = t * n_groups + group;
            // SAFETY: each member has its own groups of rows, and nobody reads them before the next barrier
            if let [line] = unsafe { out.get_mut(at..at + 1) } {
                f(y, F32x4::load(line)).store(line);
            }
        });
    }

    /// Causal attention of one head: stores the new keys and values, then every token looks back.
    fn attend(&self, own: &mut Own, layer: usize, head: usize) {
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
        for t in 0..n_new {
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
    fn gather_heads(&self, into: &mut Activations, dtype: Dtype) {
        let (n_head, d, n_new) = (self.model.dims().n_head, self.model.dims().head_dim(), self.ids.len());
        let d_lines = padded_dim(d) / 4;
        for t in 0..n_new {
            into.set(t, dtype, |vector| {
                for (head, vector) in vector[..n_head * d].chunks_exact_mut(d).enumerate() {
                    let at = (head * n_new + t) * d_lines;
                    // SAFETY: nobody writes `heads` before the next barrier
                    let out: &[f32] = unsafe { self.heads.get(at..at + d_lines) }.as_flattened();
                    vector.copy_from_slice(&out[..d]);
                }
            });
        }
    }

    fn head(&self, member: usize, own: &mut Own) {
        let layout = self.model.layout();
        let n_new = self.ids.len();
        let tokens = match self.rows {
            Rows::None => return,
            Rows::Last => n_new - 1..n_new,
            Rows::All => 0..n_new,
        };
        own.narrow.set_n_tokens(tokens.len());
        self.norm(&layout.ln_f, &mut own.narrow, layout.head().dtype, tokens);
        self.write(member, layout.head(), &own.narrow, &mut own.widened, self.logits, |y, _| y);
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

/// Softmax in place. (Not inlined: see `product::dot_one`.)
#[inline(never)]
fn softmax(x: &mut [f32]) {
    // subtract the maximum so exp() cannot overflow
    let max = F32x4::splat(x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x)));
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
