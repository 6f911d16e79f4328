//! The dispatches of passes over several texts, made when there is such a pass.
//!
//! ```text
//! few tokens       embed | c_attn  attend…  c_proj  c_fc  mlp.c_proj | head
//! many             embed | ln_1  c_attn  attend…  c_proj  ln_2  c_fc  mlp.c_proj | (ln_f) head
//! ```
//!
//! All texts' tokens lie one after the other. Only the attention knows which text a token is of. It has the caches of
//! four texts in one dispatch, since no more can be bound, so there are two of it for more texts.

use wgpu::Buffer;

use super::kernel::Dispatch;
use super::maker::{DispatchMaker, Few, Finish, Many, Source, Texts};
use super::tuning::MatvecShape;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::{CACHES_AT_ONCE, MAX_FEW, MAX_PIECES, MAX_TEXTS};
use crate::engine::gpu::memory::Widths;
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

    pub fn batch_layers(&'a self, scratch: &'a BatchScratch, width: Width) -> Result<Vec<BatchLayer>> {
        let BatchScratch { tokens, qkv, pieces } = scratch;
        let s = self.s;
        let layer = |(i, block): (usize, &'a gpt2_kernels::layout::Block)| {
            let texts = (0..MAX_TEXTS).step_by(CACHES_AT_ONCE).map(|first| Texts::Batch { tokens, qkv, first });
            let b = block;
            Ok(match width {
                Width::Few(n) => {
                    let few = Few::Batch(n, tokens);
                    let (ln_1, ln_2) = (Source::Norm(&b.ln_1), Source::Norm(&b.ln_2));
                    BatchLayer {
                        before: vec![self.matvec("c_attn", &b.c_attn, ln_1, Finish::BatchQkv(qkv), few)?],
                        attend: texts.map(|t| self.attention_of_single(i, t, pieces)).collect::<Result<_>>()?,
                        after: vec![
                            self.matvec("c_proj", &b.c_proj, Source::Attended(pieces), Finish::Residual, few)?,
                            self.matvec("c_fc", &b.c_fc, ln_2, Finish::Activated, few)?,
                            self.matvec("mlp.c_proj", &b.mlp_c_proj, Source::Hidden, Finish::Residual, few)?,
                        ],
                    }
                }
                Width::Many => {
                    let many = Many::Tokens;
                    BatchLayer {
                        before: vec![
                            self.norm(&b.ln_1, None)?,
                            self.matmul("c_attn", &b.c_attn, &s.normed, Finish::BatchQkv(qkv), many)?,
                        ],
                        attend: texts.map(|t| self.attention_of_blocks(i, t)).collect::<Result<_>>()?,
                        after: vec![
                            self.matmul("c_proj", &b.c_proj, &s.attended, Finish::Residual, many)?,
                            self.norm(&b.ln_2, None)?,
                            self.matmul("c_fc", &b.c_fc, &s.normed, Finish::Activated, many)?,
                            self.matmul("mlp.c_proj", &b.mlp_c_proj, &s.hidden, Finish::Residual, many)?,
                        ],
                    }
                }
            })
        };
        self.image.layout.blocks.iter().enumerate().map(layer).collect()
    }

    /// Logits of the tokens that they are wanted of.
    pub fn batch_head(&self, scratch: &BatchScratch, width: Width) -> Result<Vec<Dispatch>> {
        let layout = &self.image.layout;
        let logits = Finish::Plain(&self.s.logits, self.w.vocab_padded);
        match width {
            Width::Few(n) => {
                let head = self.matvec("head", layout.head(), Source::Norm(&layout.ln_f), logits, Few::Rows(n))?;
                Ok(vec![head])
            }
            Width::Many => Ok(vec![
                self.norm(&layout.ln_f, Some(&scratch.tokens))?,
                self.matmul("head", layout.head(), &self.s.normed, logits, Many::Rows)?,
            ]),
        }
    }

    pub fn batch_embed(&self, scratch: &BatchScratch) -> Result<Dispatch> {
        self.embed(Some(&scratch.tokens))
    }
}
