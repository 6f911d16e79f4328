//! The stages of one pass and what one member of the team does in each. Every matrix is read once.
//!
//! ```text
//! x = wte[id] + wpe[n]
//! per block: LN -> c_attn | attention per head | x += c_proj | LN -> c_fc -> activation | x += mlp.c_proj
//! LN -> head                                                                                   (| = barrier)
//! ```
//!
//! A stage is what lies between two barriers. All that it leaves for the next one is in the scratch and the cache, so
//! that a pass can be left after any stage and continued later. This is how a page stays responsive while it reads a
//! prompt.

use core::ops::Range;

use bytemuck::cast_slice;

use super::rows::Rows;
use crate::activation::activate_row;
use crate::cache::{HeadCache, padded_dim};
use crate::format::{Dtype, unpack_row};
use crate::inputs::Inputs;
use crate::layout::{Block, Matrix, Norm};
use crate::limits::GROUP;
use crate::model::PackedModel;
use crate::norm::layer_norm;
use crate::op::Op;
use crate::product::{Weights, Widened, product};
use crate::scratch::MemberScratch;
use crate::simd::F32x4;
use crate::softmax::softmax;
use crate::team::{Shared, share};

/// Tokens in one stage of the head: for each of them the head is as much work as several blocks.
const HEAD_TOKENS: usize = 8;

/// What the stages read and write, T being the new tokens and S all of them.
pub struct Stages<'a> {
    pub model: &'a PackedModel,
    /// [T]
    pub ids: &'a [u32],
    /// Tokens in the cache before this pass.
    pub n_past: usize,
    pub rows: Rows,
    pub n_members: usize,
    /// [n_layer, H]
    pub cache: Shared<'a, HeadCache>,
    /// The residual stream: [T, C'/4]
    pub x: Shared<'a, [f32; 4]>,
    /// [T, (3C)'/4]
    pub qkv: Shared<'a, [f32; 4]>,
    /// Outputs of the heads: [H, T, D'/4]
    pub heads: Shared<'a, [f32; 4]>,
    /// The MLP's hidden layer: [T, n_inner'/4]
    pub hidden: Shared<'a, [f32; 4]>,
    /// [rows, V'/4]
    pub logits: Shared<'a, [f32; 4]>,
    /// [n_layer, H, T, S], or empty
    pub attentions: Shared<'a, f32>,
}

impl Stages<'_> {
    /// How many stages there are: the embedding, five of each block, and as many of the head as its tokens need.
    pub fn len(&self) -> usize {
        1 + Op::BLOCK.len() * self.model.dims().n_layer + self.head_tokens().len().div_ceil(HEAD_TOKENS)
    }

    /// A member's share of stage number `stage`. → the part of the pass that the stage belongs to
    pub fn run(&self, member: usize, own: &mut MemberScratch, stage: usize) -> Op {
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

    /// How many vectors of four hold a row of `n` numbers.
    fn n_vectors(n: usize) -> usize {
        n.div_ceil(GROUP)
    }

    /// `x = wte[id] + wpe[n]`; each member does some of the tokens.
    fn embed(&self, member: usize) {
        let (layout, image, c) = (self.model.layout(), self.model.image(), self.model.dims().n_embd);
        let wte = &layout.wte;
        let n_vectors = Self::n_vectors(c);
        let wpe: &[f32] = cast_slice(&image[layout.wpe.clone()]);
        for t in share(self.ids.len(), member, self.n_members) {
            // SAFETY: each member has its own tokens
            let x: &mut [f32] = unsafe { self.x.get_mut(t * n_vectors..(t + 1) * n_vectors) }.as_flattened_mut();
            embedding(wte, image, self.ids[t] as usize, &mut x[..c]);
            for (x, p) in x.iter_mut().zip(&wpe[(self.n_past + t) * c..][..c]) {
                *x += p;
            }
        }
    }

    /// The tokens that an op of a block is done for: all of them, but in the last block only those whose logits are
    /// wanted, as soon as no other token needs them.
    fn tokens(&self, layer: usize, op: Op) -> Range<usize> {
        let is_needed = match op {
            Op::Embed | Op::Qkv | Op::Head => true,
            Op::Attention => !self.attentions.is_empty(),
            Op::Proj | Op::Fc | Op::Proj2 => false,
        };
        if is_needed || layer + 1 < self.model.dims().n_layer { 0..self.ids.len() } else { self.head_tokens() }
    }

    fn block(&self, member: usize, own: &mut MemberScratch, layer: usize, block: &Block, op: Op) {
        let dims = self.model.dims();
        let tokens = self.tokens(layer, op);
        let MemberScratch { inputs, inner_inputs, widened, .. } = own;
        match op {
            Op::Embed | Op::Head => {}
            Op::Qkv => {
                self.norm(&block.ln_1, inputs, block.c_attn.dtype, tokens.clone());
                self.write(member, &block.c_attn, inputs, widened, tokens, self.qkv, |y, _| y);
            }
            Op::Attention => {
                for head in share(dims.n_head, member, self.n_members) {
                    self.attend(own, layer, head, tokens.clone());
                }
            }
            Op::Proj => {
                self.gather_heads(inputs, block.c_proj.dtype, tokens.clone());
                self.write(member, &block.c_proj, inputs, widened, tokens, self.x, |y, x| x + y);
            }
            Op::Fc => {
                self.norm(&block.ln_2, inputs, block.c_fc.dtype, tokens.clone());
                self.write(member, &block.c_fc, inputs, widened, tokens.clone(), self.hidden, |y, _| y);
                self.activate(member, tokens);
            }
            Op::Proj2 => {
                self.gather_hidden(inner_inputs, block.mlp_c_proj.dtype, tokens.clone());
                self.write(member, &block.mlp_c_proj, inner_inputs, widened, tokens, self.x, |y, x| x + y);
            }
        }
    }

    /// LayerNorm of rows of x. Every member does all of them for itself, which takes less time than one more barrier
    /// would.
    fn norm(&self, norm: &Norm, into: &mut Inputs, dtype: Dtype, tokens: Range<usize>) {
        let (image, dims) = (self.model.image(), self.model.dims());
        let (weight, bias) = (cast_slice(&image[norm.weight.clone()]), cast_slice(&image[norm.bias.clone()]));
        let n_vectors = Self::n_vectors(dims.n_embd);
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            // SAFETY: nobody writes x before the next barrier
            let x: &[f32] = unsafe { self.x.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
            into.set(i, dtype, |out| layer_norm(&x[..dims.n_embd], weight, bias, dims.layer_norm_epsilon, out));
        }
    }

    /// The product of a matrix with the inputs of `tokens`, for this member's share of the matrix's rows. Each element
    /// of `out` becomes `f(y, element)`. out: [T, R'/4]
    #[allow(clippy::too_many_arguments)] // no two of them belong together
    fn write(
        &self,
        member: usize,
        matrix: &Matrix,
        x: &Inputs,
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

    /// Causal attention of one head: stores the new keys and values, then computes the outputs of `tokens`.
    fn attend(&self, own: &mut MemberScratch, layer: usize, head: usize, tokens: Range<usize>) {
        let dims = self.model.dims();
        let (c, d, n_new) = (dims.n_embd, dims.head_dim(), self.ids.len());
        let (d_vectors, n_keys_all) = (padded_dim(d) / 4, self.n_past + n_new);
        let n_vectors = Self::n_vectors(3 * c);
        // SAFETY: each member has its own heads
        let [cache] = (unsafe { self.cache.get_mut(layer * dims.n_head + head..layer * dims.n_head + head + 1) })
        else {
            return;
        };
        let part = |t: usize, which: usize| {
            // SAFETY: nobody writes `qkv` before the next barrier
            let qkv: &[f32] = unsafe { self.qkv.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
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
            let at = (head * n_new + t) * d_vectors;
            // SAFETY: each head's output is its own
            let out = unsafe { self.heads.get_mut(at..at + d_vectors) };
            out.fill([0.0; 4]);
            cache.add_values(&own.scores, out);
        }
    }

    /// The heads' outputs side by side: [H, T, D] → [T, C]
    fn gather_heads(&self, into: &mut Inputs, dtype: Dtype, tokens: Range<usize>) {
        let (n_head, d, n_new) = (self.model.dims().n_head, self.model.dims().head_dim(), self.ids.len());
        let d_vectors = padded_dim(d) / 4;
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            into.set(i, dtype, |vector| {
                for (head, vector) in vector[..n_head * d].chunks_exact_mut(d).enumerate() {
                    let at = (head * n_new + t) * d_vectors;
                    // SAFETY: nobody writes `heads` before the next barrier
                    let out: &[f32] = unsafe { self.heads.get(at..at + d_vectors) }.as_flattened();
                    vector.copy_from_slice(&out[..d]);
                }
            });
        }
    }

    /// The activation function of this member's part of the hidden layer. It is a long chain of operations that depend
    /// on one another, so a whole row is done at once: the processor then works on several vectors at a time.
    fn activate(&self, member: usize, tokens: Range<usize>) {
        let dims = self.model.dims();
        let n_vectors = Self::n_vectors(dims.n_inner);
        let own = share(n_vectors, member, self.n_members);
        for t in tokens {
            // SAFETY: this member has written this part in `write`, and no other member touches it before the next
            // barrier
            activate_row(dims.activation, unsafe {
                self.hidden.get_mut(t * n_vectors + own.start..t * n_vectors + own.end)
            });
        }
    }

    /// The MLP's hidden layer as inputs of `mlp.c_proj`: [T, n_inner]
    fn gather_hidden(&self, into: &mut Inputs, dtype: Dtype, tokens: Range<usize>) {
        let n = self.model.dims().n_inner;
        let n_vectors = Self::n_vectors(n);
        into.set_n_tokens(tokens.len());
        for (i, t) in tokens.enumerate() {
            // SAFETY: nobody writes `hidden` before the next barrier
            let hidden: &[f32] = unsafe { self.hidden.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
            into.set(i, dtype, |vector| vector[..n].copy_from_slice(&hidden[..n]));
        }
    }

    /// The tokens for which the head is computed.
    fn head_tokens(&self) -> Range<usize> {
        self.rows.tokens(self.ids.len())
    }

    /// The head, for the [`HEAD_TOKENS`] tokens of part `part`.
    fn head(&self, member: usize, own: &mut MemberScratch, part: usize) {
        let layout = self.model.layout();
        let all = self.head_tokens();
        let first = all.start + part * HEAD_TOKENS;
        let tokens = first..all.end.min(first + HEAD_TOKENS);
        let rows = tokens.start - all.start..tokens.end - all.start;
        self.norm(&layout.ln_f, &mut own.inputs, layout.head().dtype, tokens);
        self.write(member, layout.head(), &own.inputs, &mut own.widened, rows, self.logits, |y, _| y);
    }
}

/// Row `id` of an embedding. out: \[C\]
fn embedding(wte: &Matrix, image: &[u8], id: usize, out: &mut [f32]) {
    let (group, row) = (id / GROUP, id % GROUP);
    let quants = &image[wte.quants.clone()][group * wte.group_bytes()..][..wte.group_bytes()];
    let scales: &[f32] = cast_slice(&image[wte.row_scales.clone()]);
    // without block scales, because `Layout` stores no embedding as q4
    unpack_row(wte.dtype, cast_slice(quants), &[], scales.get(id).copied().unwrap_or(1.0), row, out);
}
