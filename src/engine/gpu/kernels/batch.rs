//! The dispatches of passes over several texts, made when there is such a pass.
//!
//! ```text
//! few tokens       embed | c_attn  attend…  c_proj  c_fc  mlp.c_proj | head
//! many             embed | ln_1  c_attn  attend…  c_proj  ln_2  c_fc  mlp.c_proj | (ln_f) head
//! ```
//!
//! All texts' tokens lie one after the other. Only the attention knows which text a token is of. It has the caches of
//! four texts in one dispatch, since no more can be bound, so there are two of it for more texts.

use gpt2_kernels::layout::Block;
use wgpu::Buffer;

use super::kernel::{Added, Dispatch};
use super::maker::{DispatchMaker, Few, Finish, Many, Source, Texts};
use super::tuning::MatvecShape;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::{CACHES_AT_ONCE, MAX_FEW, MAX_PIECES, MAX_TEXTS};
use crate::engine::gpu::memory::{Parts, Widths};
use crate::error::Result;

/// How many tokens a kernel for few takes at most.
const FEW: [usize; 3] = [2, 4, MAX_FEW];

/// The buffers that only such passes use.
pub(crate) struct BatchScratch {
    /// vec4<u32> of each token: id, position, text, the first new token of that text. From `blocks_at` on, of each block
    /// of tokens of one text: the first, how many. From `rows_at` on, each row: the token.
    pub tokens: Buffer,
    /// Queries, keys and values, [T][3][H][D'].
    pub qkv: Buffer,
    /// As `pieces` of `Scratch`, for each of few tokens.
    pub pieces: Buffer,
}

impl BatchScratch {
    pub fn new(context: &Context, w: &Widths) -> Self {
        let head_bytes = 4 * w.n_head * w.head_padded;
        let piece_bytes = 4 * w.n_head * MAX_PIECES * (w.head_padded + 4);
        Self {
            tokens: context.storage("batch", 3 * 16 * w.max_chunk as u64),
            qkv: context.storage("batch qkv", (3 * head_bytes * w.max_chunk) as u64),
            pieces: context.storage("batch pieces", (piece_bytes * MAX_FEW) as u64),
        }
    }
}

impl Drop for BatchScratch {
    fn drop(&mut self) {
        [&self.tokens, &self.qkv, &self.pieces].into_iter().for_each(Buffer::destroy);
    }
}

/// The dispatches of one block: before the attention, those of the attention, each with the caches of as many texts as
/// it binds, and after it.
pub(crate) struct BatchLayer {
    pub before: Vec<Dispatch>,
    pub attend: Vec<Dispatch>,
    pub after: Vec<Dispatch>,
}

/// For how many tokens, or rows of logits, a kernel is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Width {
    /// At most so many.
    Few(usize),
    Many,
}

impl<'a> DispatchMaker<'a> {
    /// The width of the kernels for so many tokens.
    pub fn width(&self, n_tokens: usize) -> Width {
        let layout = &self.image.layout;
        let is_for = |n: usize| {
            let blocks = layout.blocks.iter().flat_map(|b| [&b.c_attn, &b.c_proj, &b.c_fc, &b.mlp_c_proj]);
            blocks.chain([layout.head()]).all(|matrix| MatvecShape::is_for(matrix, n))
        };
        FEW.into_iter().find(|&n| n >= n_tokens && is_for(n)).map_or(Width::Many, Width::Few)
    }

    /// `adapter`: of each block, what an adapter has for it, if the texts have one.
    pub fn batch_layers(
        &'a self,
        scratch: &'a BatchScratch,
        width: Width,
        adapter: Option<&[Parts]>,
    ) -> Result<Vec<BatchLayer>> {
        let none = Parts::default();
        let of_layer = |i: usize| adapter.and_then(|parts| parts.get(i)).unwrap_or(&none);
        let blocks = self.image.layout.blocks.iter().enumerate();
        blocks.map(|(i, block)| self.batch_layer(scratch, width, (i, block), of_layer(i))).collect()
    }

    fn batch_layer(
        &'a self,
        scratch: &'a BatchScratch,
        width: Width,
        (layer, block): (usize, &'a Block),
        parts: &Parts,
    ) -> Result<BatchLayer> {
        let BatchScratch { tokens, qkv, pieces } = scratch;
        let Block { ln_1, c_attn, c_proj, ln_2, c_fc, mlp_c_proj } = block;
        let [to_attn, to_proj, to_fc, to_mlp_proj] = parts.each_ref().map(Option::as_ref);
        let texts = (0..MAX_TEXTS).step_by(CACHES_AT_ONCE).map(|first| Texts::Batch { tokens, qkv, first });
        let (s, keep, add) = (self.s, Finish::BatchQkv(qkv), Finish::Residual);
        let (before, attend, after) = match width {
            Width::Few(n) => {
                let few = Few::Batch(n, tokens);
                let (norm_1, norm_2, attended) = (Source::Norm(ln_1), Source::Norm(ln_2), Source::Attended(pieces));
                let hidden = Source::Plain(&s.hidden);
                let before = vec![self.adapted_matvec("c_attn", c_attn, norm_1, keep, few, to_attn)?];
                let after = vec![
                    self.adapted_matvec("c_proj", c_proj, attended, add, few, to_proj)?,
                    self.adapted_matvec("c_fc", c_fc, norm_2, Finish::Activated, few, to_fc)?,
                    self.adapted_matvec("mlp.c_proj", mlp_c_proj, hidden, add, few, to_mlp_proj)?,
                ];
                let attend = texts.map(|t| self.attention_of_single(layer, t, pieces)).collect::<Result<_>>()?;
                (before, attend, after)
            }
            Width::Many => {
                let many = Many::Tokens;
                let before = vec![
                    vec![self.norm(ln_1, None)?],
                    self.adapted_matmul("c_attn", c_attn, &s.normed, keep, many, to_attn)?,
                ];
                let after = vec![
                    self.adapted_matmul("c_proj", c_proj, &s.attended, add, many, to_proj)?,
                    vec![self.norm(ln_2, None)?],
                    self.adapted_matmul("c_fc", c_fc, &s.normed, Finish::Activated, many, to_fc)?,
                    self.adapted_matmul("mlp.c_proj", mlp_c_proj, &s.hidden, add, many, to_mlp_proj)?,
                ];
                let attend = texts.map(|t| self.attention_of_blocks(layer, t)).collect::<Result<_>>()?;
                (before, attend, after)
            }
        };
        let flat = |steps: Vec<Vec<Dispatch>>| steps.into_iter().flatten().collect();
        Ok(BatchLayer { before: flat(before), attend, after: flat(after) })
    }

    /// Logits of the tokens that they are wanted of.
    pub fn batch_head(&self, scratch: &BatchScratch, width: Width) -> Result<Vec<Dispatch>> {
        let layout = &self.image.layout;
        let logits = Finish::Plain(&self.s.logits, self.w.vocab_padded);
        match width {
            Width::Few(n) => {
                let head = self.matvec(
                    "head",
                    layout.head(),
                    Source::Norm(&layout.ln_f),
                    logits,
                    Few::Rows(n),
                    Added::Nothing,
                )?;
                Ok(vec![head])
            }
            Width::Many => Ok(vec![
                self.norm(&layout.ln_f, Some(&scratch.tokens))?,
                self.matmul("head", layout.head(), &self.s.normed, logits, Many::Rows, Added::Nothing)?,
            ]),
        }
    }

    pub fn batch_embed(&self, scratch: &BatchScratch) -> Result<Dispatch> {
        self.embed(Some(&scratch.tokens))
    }
}
