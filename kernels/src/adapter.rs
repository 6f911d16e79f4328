//! Low-rank adapters (LoRA) beside the packed weights: y = W x + b + B (A x), the factor s being a part of B.
//!
//! The weights stay as they are, so that a pass without an adapter gives the bits that it gives where none is loaded.
//! A x is computed from the exact x, before a product rounds it.

use alloc::vec;
use alloc::vec::Vec;

use crate::dims::Dims;
use crate::limits::{BLOCK, GROUP};
use crate::op::Op;
use crate::simd::F32x4;

/// What an adapter adds to one matrix of R rows (outputs) and K columns (inputs), with r as its rank.
#[derive(Clone, Debug, Default)]
pub struct LowRank {
    /// A: [r'/4, 4, K'/4]
    down: Vec<[f32; 4]>,
    /// s B, four rows side by side: [R'/4, r']
    up: Vec<[f32; 4]>,
    /// r', a multiple of four
    rank: usize,
}

impl LowRank {
    /// Packs A [r, K] and B [R, r], both row-major; `scale` is s.
    fn new(a: &[f32], b: &[f32], rank: usize, scale: f32) -> Self {
        let (n_cols, n_rows) = (a.len() / rank, b.len() / rank);
        let (width, padded) = (n_cols.next_multiple_of(BLOCK), rank.next_multiple_of(4));
        let mut down = vec![[0.0; 4]; padded * width / 4];
        for (row, into) in a.chunks_exact(n_cols).zip(down.chunks_exact_mut(width / 4)) {
            into.as_flattened_mut()[..n_cols].copy_from_slice(row);
        }
        let mut up = vec![[0.0; 4]; n_rows.div_ceil(GROUP) * padded];
        for (row, b) in b.chunks_exact(rank).enumerate() {
            for (into, &b) in up[row / GROUP * padded..].iter_mut().zip(b) {
                into[row % GROUP] = scale * b;
            }
        }
        Self { down, up, rank: padded }
    }

    /// Takes the other's ranks as well: the sum of both.
    fn add(&mut self, other: Self) {
        let groups = |of: &Self| of.up.len().checked_div(of.rank).unwrap_or(0);
        let n = groups(self).max(groups(&other));
        let mut up = Vec::with_capacity(self.up.len() + other.up.len());
        for group in 0..n {
            for of in [&*self, &other] {
                up.extend_from_slice(&of.up[group * of.rank..][..of.rank]);
            }
        }
        self.up = up;
        self.down.extend(other.down);
        self.rank += other.rank;
    }

    /// A x. x: [K'], its padding zeros; out: [r'/4]
    pub fn lower(&self, x: &[[f32; 8]], out: &mut Vec<[f32; 4]>) {
        let x = x.as_flattened().as_chunks::<4>().0;
        for rows in self.down.chunks_exact(4 * x.len()) {
            let mut sums = [F32x4::splat(0.0); 4];
            for (k, x) in x.iter().enumerate() {
                let x = F32x4::load(x);
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum = x.madd(F32x4::load(&rows[row * self.down_width() + k]), *sum);
                }
            }
            let mut four = [0.0; 4];
            F32x4::sums(sums).store(&mut four);
            out.push(four);
        }
    }

    /// Vectors in a row of A.
    fn down_width(&self) -> usize {
        self.down.len() / self.rank
    }

    /// The rows of s B (A x) of one group. lowered: A x, [r'/4]
    pub fn raise(&self, lowered: &[[f32; 4]], group: usize) -> F32x4 {
        let up = &self.up[group * self.rank..][..self.rank];
        up.iter()
            .zip(lowered.as_flattened())
            .fold(F32x4::splat(0.0), |sum, (b, &a)| F32x4::splat(a).madd(F32x4::load(b), sum))
    }
}

/// The matrices that an adapter may have parts for, in the order of a block.
pub const ADAPTED: [Op; 4] = [Op::Qkv, Op::Proj, Op::Fc, Op::Proj2];

/// An adapter of a model, or several that are added up.
#[derive(Clone, Debug)]
pub struct Adapter {
    dims: Dims,
    /// Of each block, in the order of [`ADAPTED`].
    parts: Vec<[Option<LowRank>; ADAPTED.len()]>,
}

impl Adapter {
    /// One that changes nothing yet.
    pub fn new(dims: &Dims) -> Self {
        Self { dims: *dims, parts: vec![Default::default(); dims.n_layer] }
    }

    /// Inputs and outputs of a matrix: K and R.
    pub fn shape(dims: &Dims, op: Op) -> (usize, usize) {
        let (c, inner) = (dims.n_embd, dims.n_inner);
        match op {
            Op::Qkv => (c, 3 * c),
            Op::Fc => (c, inner),
            Op::Proj2 => (inner, c),
            Op::Embed | Op::Attention | Op::Proj | Op::Head => (c, c),
        }
    }

    /// Adds s B A to the matrix of `op` in block `layer`. a: [r, K], b: [R, r], row-major; r is at least 1.
    pub fn add(&mut self, layer: usize, op: Op, a: &[f32], b: &[f32], scale: f32) {
        let (n_cols, n_rows) = Self::shape(&self.dims, op);
        let rank = a.len() / n_cols;
        debug_assert_eq!((rank * n_cols, rank * n_rows), (a.len(), b.len()));
        if let Some(part) = self.part_mut(layer, op) {
            part.get_or_insert_default().add(LowRank::new(a, b, rank, scale));
        }
    }

    fn part_mut(&mut self, layer: usize, op: Op) -> Option<&mut Option<LowRank>> {
        let which = ADAPTED.iter().position(|&adapted| adapted == op)?;
        self.parts.get_mut(layer)?.get_mut(which)
    }

    /// What it adds to the matrix of `op` in block `layer`.
    pub fn part(&self, layer: usize, op: Op) -> Option<&LowRank> {
        let which = ADAPTED.iter().position(|&adapted| adapted == op)?;
        self.parts.get(layer)?[which].as_ref()
    }

    /// Bytes of its parts.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().flatten().flatten().map(|part| 16 * (part.down.len() + part.up.len())).sum()
    }

    /// Bytes that a part of rank r takes: see [`Self::add`].
    pub fn part_bytes(dims: &Dims, op: Op, rank: usize) -> usize {
        let (n_cols, n_rows) = Self::shape(dims, op);
        4 * rank.next_multiple_of(4) * (n_cols.next_multiple_of(BLOCK) + n_rows.next_multiple_of(GROUP))
    }
}

/// A x of the rows of a stage, for those whose text has an adapter.
#[derive(Default)]
pub struct Lowered {
    values: Vec<[f32; 4]>,
    /// Where each row's values end; the rows before it say where they begin.
    ends: Vec<usize>,
}

impl Lowered {
    /// Forgets the rows of the stage before.
    pub fn clear(&mut self) {
        self.values.clear();
        self.ends.clear();
    }

    /// The next row's A x, or nothing where its text has no adapter for the matrix.
    pub fn push(&mut self, part: Option<&LowRank>, x: &[[f32; 8]]) {
        if let Some(part) = part {
            part.lower(x, &mut self.values);
        }
        self.ends.push(self.values.len());
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[[f32; 4]] {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.values[begin..self.ends[i]]
    }
}
