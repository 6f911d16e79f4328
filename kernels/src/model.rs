//! A model's packed weights in memory. What runs them is in [`crate::forward`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytemuck::allocation::try_zeroed_slice_box;
use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use crate::cache::Cache;
use crate::dims::Dims;
use crate::format::Dtype;
use crate::layout::{Layout, Matrix};
use crate::limits::GROUP;
use crate::product::{SEGMENT, Weights, offsets};
use crate::scratch::Scratch;

/// A cache line of 64 bytes: it gives the image its alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

/// A model: its hyperparameters and its packed weights.
pub struct PackedModel {
    dims: Dims,
    layout: Layout,
    image: Box<[CacheLine]>,
    /// [`offsets`] of the q8 matrices, and where their quants begin; none unless they are multiplied as bytes.
    offsets: Vec<(usize, Vec<[i32; GROUP]>)>,
}

impl PackedModel {
    /// A model whose weights are all zero, to be filled; `None` if there is not enough memory for them.
    pub fn new(dims: Dims, dtype: Dtype) -> Option<Self> {
        let layout = Layout::new(&dims, dtype)?;
        let n_lines = layout.n_bytes.div_ceil(size_of::<CacheLine>());
        let image = try_zeroed_slice_box(n_lines).ok()?;
        Some(Self { dims, layout, image, offsets: Vec::new() })
    }

    /// Its hyperparameters.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// Where its tensors lie in the image.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The packed weights.
    pub fn image(&self) -> &[u8] {
        cast_slice(&self.image)
    }

    /// The packed weights, to be filled.
    pub fn image_mut(&mut self) -> &mut [u8] {
        cast_slice_mut(&mut self.image)
    }

    /// A matrix of the image, ready to be multiplied.
    pub fn weights(&self, matrix: &Matrix) -> Weights<'_> {
        let weights = Weights::new(matrix, self.image());
        match self.offsets.iter().find(|(quants, _)| *quants == matrix.quants.start) {
            Some((_, offsets)) => weights.with_offsets(offsets),
            None => weights,
        }
    }

    /// Whether integer weights are multiplied as bytes from now on. It gives the same bits and is faster on processors
    /// that have an instruction for it. To be called when the image is whole.
    pub fn use_byte_dots(&mut self, is_wanted: bool) {
        self.offsets.clear();
        if is_wanted {
            let matrices = self.layout.matrices().filter(|m| m.dtype == Dtype::Q8);
            self.offsets = matrices.map(|m| (m.quants.start, offsets(m, cast_slice(&self.image)))).collect();
        }
    }

    /// Bytes that [`Self::use_byte_dots`] allocates.
    pub fn offsets_bytes(&self) -> usize {
        let matrices = self.layout.matrices().filter(|m| m.dtype == Dtype::Q8);
        matrices.map(|m| m.n_rows_padded() * m.n_cols_padded().div_ceil(SEGMENT) * 4).sum()
    }

    /// An empty cache: i8 where the weights are integers, f32 otherwise.
    pub fn new_cache(&self) -> Cache {
        Cache::new(&self.dims, matches!(self.layout.dtype, Dtype::Q8 | Dtype::Q4))
    }

    /// A scratch for a team of `n_members`.
    pub fn scratch(&self, n_members: usize) -> Scratch {
        Scratch::new(&self.dims, n_members)
    }
}
