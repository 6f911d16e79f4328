//! The stages of one pass and what one member of the team does in each. Every matrix is read once.
//!
//! ```text
//! x = wte[id] + wpe[n]
//! per block: LN -> c_attn | attention per head | x += c_proj | LN -> c_fc -> activation | x += mlp.c_proj
//! LN -> head                                                                                   (| = barrier)
//! ```
//!
//! The rows of a pass may be tokens of several texts. Each row is computed as if it were alone; texts meet only in that
//! a product reads a weight once for all rows.
//!
//! A stage is what lies between two barriers. All that it leaves for the next one is in the scratch and the cache, so
//! that a pass can be left after any stage and continued later. This is how a page stays responsive while it reads a
//! prompt.

use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::cast_slice;

use crate::activation::activate_row;
use crate::cache::{HeadCache, padded_dim};
use crate::format::unpack_row;
use crate::inputs::{Form, Inputs};
use crate::layout::{Block, Matrix, Norm};
use crate::limits::GROUP;
use crate::model::PackedModel;
use crate::norm::layer_norm;
use crate::op::Op;
use crate::product::{Widened, product};
use crate::scratch::MemberScratch;
use crate::simd::F32x4;
use crate::softmax::softmax;
use crate::team::{Shared, share};

/// Rows in one stage of the head: for each of them the head is as much work as several blocks.
const HEAD_ROWS: usize = 8;

/// A token of the pass.
pub struct Row {
    pub id: u32,
    /// Its number in its text.
    pub position: usize,
}

/// A text with tokens in the pass.
pub struct Text<'a> {
    /// Which rows of the pass are its tokens.
    pub rows: Range<usize>,
    /// Tokens in its cache before the pass.
    pub n_past: usize,
    /// [n_layer, H]
    pub cache: Shared<'a, HeadCache>,
}

/// What the stages read and write, T being the rows of all texts and S, of a single one, all tokens so far.
pub struct Stages<'a> {
    pub model: &'a PackedModel,
    /// [T]
    pub rows: Vec<Row>,
    /// Every row: 0..T
    pub all: Vec<usize>,
    /// The rows whose logits are computed, in order.
    pub wanted: Vec<usize>,
    pub texts: Vec<Text<'a>>,
    pub n_members: usize,
    /// The residual stream: [T, C'/4]
    pub x: Shared<'a, [f32; 4]>,
    /// [T, (3C)'/4]
    pub qkv: Shared<'a, [f32; 4]>,
    /// Outputs of the heads: [H, T, D'/4]
    pub heads: Shared<'a, [f32; 4]>,
    /// The MLP's hidden layer: [T, n_inner'/4]
    pub hidden: Shared<'a, [f32; 4]>,
    /// [wanted, V'/4]
    pub logits: Shared<'a, [f32; 4]>,
    /// [n_layer, H, T, S] of a single text, or empty
    pub attentions: Shared<'a, f32>,
}

impl Stages<'_> {
    /// How many stages there are: the embedding, five of each block, and as many of the head as its rows need.
    pub fn len(&self) -> usize {
        1 + Op::BLOCK.len() * self.model.dims().n_layer + self.wanted.len().div_ceil(HEAD_ROWS)
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

    /// `x = wte[id] + wpe[n]`; each member does some of the rows.
    fn embed(&self, member: usize) {
        let (layout, image, c) = (self.model.layout(), self.model.image(), self.model.dims().n_embd);
        let wte = &layout.wte;
        let n_vectors = Self::n_vectors(c);
        let wpe: &[f32] = cast_slice(&image[layout.wpe.clone()]);
        for t in share(self.rows.len(), member, self.n_members) {
            let Row { id, position } = self.rows[t];
            // SAFETY: each member has its own rows
            let x: &mut [f32] = unsafe { self.x.get_mut(t * n_vectors..(t + 1) * n_vectors) }.as_flattened_mut();
            embedding(wte, image, id as usize, &mut x[..c]);
            for (x, p) in x.iter_mut().zip(&wpe[position * c..][..c]) {
                *x += p;
            }
        }
    }

    /// The rows that an op of a block is done for: all of them, but in the last block only those whose logits are
    /// wanted, as soon as no other row needs them.
    fn rows_of(&self, layer: usize, op: Op) -> &[usize] {
        let is_needed = match op {
            Op::Embed | Op::Qkv | Op::Head => true,
            Op::Attention => !self.attentions.is_empty(),
            Op::Proj | Op::Fc | Op::Proj2 => false,
        };
        if is_needed || layer + 1 < self.model.dims().n_layer { &self.all } else { &self.wanted }
    }

    fn block(&self, member: usize, own: &mut MemberScratch, layer: usize, block: &Block, op: Op) {
        let dims = self.model.dims();
        let rows = self.rows_of(layer, op);
        let MemberScratch { inputs, inner_inputs, widened, .. } = own;
        match op {
            Op::Embed | Op::Head => {}
            Op::Qkv => {
                self.norm(&block.ln_1, inputs, self.form(&block.c_attn), rows);
                self.write(member, &block.c_attn, inputs, widened, rows, self.qkv, |y, _| y);
            }
            Op::Attention => {
                for head in share(dims.n_head, member, self.n_members) {
                    self.attend(own, layer, head, rows);
                }
            }
            Op::Proj => {
                self.gather_heads(inputs, self.form(&block.c_proj), rows);
                self.write(member, &block.c_proj, inputs, widened, rows, self.x, |y, x| x + y);
            }
            Op::Fc => {
                self.norm(&block.ln_2, inputs, self.form(&block.c_fc), rows);
                self.write(member, &block.c_fc, inputs, widened, rows, self.hidden, |y, _| y);
                self.activate(member, rows);
            }
            Op::Proj2 => {
                self.gather_hidden(inner_inputs, self.form(&block.mlp_c_proj), rows);
                self.write(member, &block.mlp_c_proj, inner_inputs, widened, rows, self.x, |y, x| x + y);
            }
        }
    }

    fn form(&self, matrix: &Matrix) -> Form {
        self.model.weights(matrix).form()
    }

    /// LayerNorm of rows of x. Every member does all of them for itself, which takes less time than one more barrier
    /// would.
    fn norm(&self, norm: &Norm, into: &mut Inputs, form: Form, rows: &[usize]) {
        let (image, dims) = (self.model.image(), self.model.dims());
        let (weight, bias) = (cast_slice(&image[norm.weight.clone()]), cast_slice(&image[norm.bias.clone()]));
        let n_vectors = Self::n_vectors(dims.n_embd);
        into.set_n_tokens(rows.len());
        for (i, &t) in rows.iter().enumerate() {
            // SAFETY: nobody writes x before the next barrier
            let x: &[f32] = unsafe { self.x.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
            into.set(i, form, |out| layer_norm(&x[..dims.n_embd], weight, bias, dims.layer_norm_epsilon, out));
        }
    }

    /// The product of a matrix with the inputs of `rows`, for this member's share of the matrix's rows. Each element
    /// of `out` becomes `f(y, element)`. out: [T, R'/4]
    #[allow(clippy::too_many_arguments)] // no two of them belong together
    fn write(
        &self,
        member: usize,
        matrix: &Matrix,
        x: &Inputs,
        widened: &mut Widened,
        rows: &[usize],
        out: Shared<[f32; 4]>,
        f: impl Fn(F32x4, F32x4) -> F32x4,
    ) {
        let n_groups = matrix.n_rows_padded() / GROUP;
        let weights = self.model.weights(matrix);
        if rows.is_empty() {
            return;
        }
        product(&weights, x, widened, share(n_groups, member, self.n_members), |group, i, y| {
            let at = rows[i] * n_groups + group;
            // SAFETY: each member has its own groups of rows, and nobody reads them before the next barrier
            if let [line] = unsafe { out.get_mut(at..at + 1) } {
                f(y, F32x4::load(line)).store(line);
            }
        });
    }

    /// Causal attention of one head: stores each text's new keys and values, then computes the outputs of `rows`.
    fn attend(&self, own: &mut MemberScratch, layer: usize, head: usize, rows: &[usize]) {
        let dims = self.model.dims();
        let (c, d, n_rows) = (dims.n_embd, dims.head_dim(), self.rows.len());
        let (d_vectors, n_vectors) = (padded_dim(d) / 4, Self::n_vectors(3 * c));
        let part = |t: usize, which: usize| {
            // SAFETY: nobody writes `qkv` before the next barrier
            let qkv: &[f32] = unsafe { self.qkv.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
            &qkv[which * c + head * d..][..d]
        };
        let layer_head = layer * dims.n_head + head;
        let mut rows = rows.iter().copied().peekable();
        for text in &self.texts {
            // SAFETY: each member has its own heads
            let [cache] = (unsafe { text.cache.get_mut(layer_head..layer_head + 1) }) else { return };
            for (t, position) in text.rows.clone().zip(text.n_past..) {
                cache.put(position, part(t, 1), part(t, 2));
            }
            while let Some(t) = rows.next_if(|t| text.rows.contains(t)) {
                let n_keys = self.rows[t].position + 1;
                own.query.set(part(t, 0), dims.attn_scale(layer));
                own.scores.resize(n_keys, 0.0);
                cache.scores(&own.query, &mut own.scores);
                softmax(&mut own.scores);
                if !self.attentions.is_empty() {
                    let at = (layer_head * n_rows + t) * (text.n_past + n_rows);
                    // SAFETY: each head's weights are its own
                    unsafe { self.attentions.get_mut(at..at + n_keys) }.copy_from_slice(&own.scores);
                }
                let at = (head * n_rows + t) * d_vectors;
                // SAFETY: each head's output is its own
                let out = unsafe { self.heads.get_mut(at..at + d_vectors) };
                out.fill([0.0; 4]);
                cache.add_values(&own.scores, out);
            }
        }
    }

    /// The heads' outputs side by side: [H, T, D] → [T, C]
    fn gather_heads(&self, into: &mut Inputs, form: Form, rows: &[usize]) {
        let (n_head, d, n_rows) = (self.model.dims().n_head, self.model.dims().head_dim(), self.rows.len());
        let d_vectors = padded_dim(d) / 4;
        into.set_n_tokens(rows.len());
        for (i, &t) in rows.iter().enumerate() {
            into.set(i, form, |vector| {
                for (head, vector) in vector[..n_head * d].chunks_exact_mut(d).enumerate() {
                    let at = (head * n_rows + t) * d_vectors;
                    // SAFETY: nobody writes `heads` before the next barrier
                    let out: &[f32] = unsafe { self.heads.get(at..at + d_vectors) }.as_flattened();
                    vector.copy_from_slice(&out[..d]);
                }
            });
        }
    }

    /// The activation function of this member's part of the hidden layer. It is a long chain of operations that depend
    /// on one another, so a whole row is done at once: the processor then works on several vectors at a time.
    fn activate(&self, member: usize, rows: &[usize]) {
        let dims = self.model.dims();
        let n_vectors = Self::n_vectors(dims.n_inner);
        let own = share(n_vectors, member, self.n_members);
        for &t in rows {
            // SAFETY: this member has written this part in `write`, and no other member touches it before the next
            // barrier
            activate_row(dims.activation, unsafe {
                self.hidden.get_mut(t * n_vectors + own.start..t * n_vectors + own.end)
            });
        }
    }

    /// The MLP's hidden layer as inputs of `mlp.c_proj`: [T, n_inner]
    fn gather_hidden(&self, into: &mut Inputs, form: Form, rows: &[usize]) {
        let n = self.model.dims().n_inner;
        let n_vectors = Self::n_vectors(n);
        into.set_n_tokens(rows.len());
        for (i, &t) in rows.iter().enumerate() {
            // SAFETY: nobody writes `hidden` before the next barrier
            let hidden: &[f32] = unsafe { self.hidden.get(t * n_vectors..(t + 1) * n_vectors) }.as_flattened();
            into.set(i, form, |vector| vector[..n].copy_from_slice(&hidden[..n]));
        }
    }

    /// The head, for the [`HEAD_ROWS`] wanted rows of part `part`.
    fn head(&self, member: usize, own: &mut MemberScratch, part: usize) {
        let layout = self.model.layout();
        let first = part * HEAD_ROWS;
        let end = self.wanted.len().min(first + HEAD_ROWS);
        self.norm(&layout.ln_f, &mut own.inputs, self.form(layout.head()), &self.wanted[first..end]);
        // wanted row number i is row i of the logits
        let rows = &self.all[first..end];
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
