//! Where each tensor lies in the packed weights, which are one contiguous image, in the order of a forward pass.
//!
//! ```text
//! wpe | per block: ln_1, attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj | ln_f | wte | lm_head, if it is not wte
//! ```
//!
//! Every part begins at a multiple of [`ALIGN`] bytes. A [`Matrix`] is stored as its quants, its scales and its bias;
//! what the bytes mean is in [`crate::format`].

use alloc::vec::Vec;
use core::ops::Range;

use crate::dims::Dims;
use crate::format::Dtype;

// Whoever reads a layout needs its units.
pub use crate::limits::{ALIGN, BLOCK, GROUP};

/// The version of the image's layout. It must change whenever the same model and dtype would give other bytes, because
/// browsers keep packed weights and must not read what another version has stored.
pub const LAYOUT_VERSION: u32 = 1;

/// A matrix W of R rows (outputs) and K columns (inputs): y = W x + bias. The ranges are bytes of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// R
    pub n_rows: usize,
    /// K
    pub n_cols: usize,
    /// In groups of four rows; within a group, 16 bytes of each row in turn, along k.
    pub quants: Range<usize>,
    /// q4 only: f16 `[R'/4][K'/32][4]`.
    pub block_scales: Range<usize>,
    /// f32 [R']; empty for fp32.
    pub row_scales: Range<usize>,
    /// f32 [R']; empty if the matrix has none.
    pub bias: Range<usize>,
}

impl Matrix {
    /// R', a multiple of [`GROUP`].
    pub fn n_rows_padded(&self) -> usize {
        self.n_rows.next_multiple_of(GROUP)
    }

    /// K', a multiple of [`BLOCK`].
    pub fn n_cols_padded(&self) -> usize {
        self.n_cols.next_multiple_of(BLOCK)
    }

    /// Bytes of one group of four rows in `quants`.
    pub fn group_bytes(&self) -> usize {
        self.n_cols_padded() / self.dtype.chunk_values() * GROUP * 16
    }
}

/// A LayerNorm's weight and bias, f32 \[C\] each.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// γ
    pub weight: Range<usize>,
    /// β
    pub bias: Range<usize>,
}

/// The tensors of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// `ln_1`
    pub ln_1: Norm,
    /// `attn.c_attn`: [3C, C]
    pub c_attn: Matrix,
    /// `attn.c_proj`: [C, C]
    pub c_proj: Matrix,
    /// `ln_2`
    pub ln_2: Norm,
    /// `mlp.c_fc`: [n_inner, C]
    pub c_fc: Matrix,
    /// `mlp.c_proj`: [C, n_inner]
    pub mlp_c_proj: Matrix,
}

/// The whole image.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The dtype that was asked for; q4 keeps the embedding and the head in q8.
    pub dtype: Dtype,
    /// `wpe`: f32 [n_positions, C], row-major.
    pub wpe: Range<usize>,
    /// `h`
    pub blocks: Vec<Block>,
    /// `ln_f`
    pub ln_f: Norm,
    /// `wte`: [V, C]
    pub wte: Matrix,
    /// The head where it is not `wte`: [V, C].
    pub lm_head: Option<Matrix>,
    /// Size of the image.
    pub n_bytes: usize,
}

impl Layout {
    /// The layout of a model; `None` if its bytes cannot be counted in a `usize`.
    pub fn new(dims: &Dims, dtype: Dtype) -> Option<Self> {
        let (v, c, inner) = (dims.vocab_size, dims.n_embd, dims.n_inner);
        let head_dtype = if dtype == Dtype::Q4 { Dtype::Q8 } else { dtype };
        let mut end = End(Some(0));
        let wpe = end.floats(dims.n_positions, c);
        let mut blocks = Vec::new();
        for _ in 0..dims.n_layer {
            end.0?; // a hostile `n_layer` ends here and not in a long list of blocks
            blocks.push(Block {
                ln_1: end.norm(c),
                c_attn: end.matrix(dtype, 3 * c, c, true),
                c_proj: end.matrix(dtype, c, c, true),
                ln_2: end.norm(c),
                c_fc: end.matrix(dtype, inner, c, true),
                mlp_c_proj: end.matrix(dtype, c, inner, true),
            });
        }
        let ln_f = end.norm(c);
        let wte = end.matrix(head_dtype, v, c, false);
        let lm_head = (!dims.tie_word_embeddings).then(|| end.matrix(head_dtype, v, c, false));
        Some(Self { dtype, wpe, blocks, ln_f, wte, lm_head, n_bytes: end.0? })
    }

    /// Every matrix, in the image's order.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let blocks = self.blocks.iter().flat_map(|b| [&b.c_attn, &b.c_proj, &b.c_fc, &b.mlp_c_proj]);
        blocks.chain([&self.wte]).chain(&self.lm_head)
    }

    /// The head: `lm_head`, or `wte` where they are tied.
    pub fn head(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.wte)
    }
}

/// How far the image reaches so far; `None` once that is beyond a `usize`.
struct End(Option<usize>);

impl End {
    fn part(&mut self, n_bytes: Option<usize>) -> Range<usize> {
        let begin = self.0.unwrap_or(0);
        let end = n_bytes.and_then(|n| begin.checked_add(n));
        self.0 = self.0.and(end).and_then(|end| end.checked_next_multiple_of(ALIGN));
        begin..end.unwrap_or(begin)
    }

    fn floats(&mut self, n_rows: usize, n_cols: usize) -> Range<usize> {
        self.part(n_rows.checked_mul(n_cols).and_then(|n| n.checked_mul(4)))
    }

    fn norm(&mut self, c: usize) -> Norm {
        Norm { weight: self.floats(1, c), bias: self.floats(1, c) }
    }

    fn matrix(&mut self, dtype: Dtype, n_rows: usize, n_cols: usize, has_bias: bool) -> Matrix {
        let (rows, cols) = (n_rows.next_multiple_of(GROUP), n_cols.next_multiple_of(BLOCK));
        let empty = |end: &Self| end.0.unwrap_or(0)..end.0.unwrap_or(0);
        Matrix {
            dtype,
            n_rows,
            n_cols,
            quants: self.part((cols / dtype.chunk_values()).checked_mul(16).and_then(|n| n.checked_mul(rows))),
            block_scales: match dtype {
                Dtype::Q4 => self.part((cols / BLOCK * 2).checked_mul(rows)),
                _ => empty(self),
            },
            row_scales: if dtype == Dtype::Fp32 { empty(self) } else { self.floats(1, rows) },
            bias: if has_bias { self.floats(1, rows) } else { empty(self) },
        }
    }
}
