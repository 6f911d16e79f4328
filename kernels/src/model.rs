//! A model's packed weights in memory. What runs them is in [`crate::forward`].

use alloc::boxed::Box;

use bytemuck::allocation::try_zeroed_slice_box;
use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

use crate::cache::Cache;
use crate::dims::Dims;
use crate::format::Dtype;
use crate::layout::Layout;
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
}

impl PackedModel {
    /// A model whose weights are all zero, to be filled; `None` if there is not enough memory for them.
    pub fn new(dims: Dims, dtype: Dtype) -> Option<Self> {
        let layout = Layout::new(&dims, dtype)?;
        let n_lines = layout.n_bytes.div_ceil(size_of::<CacheLine>());
        let image = try_zeroed_slice_box(n_lines).ok()?;
        Some(Self { dims, layout, image })
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

    /// An empty cache: i8 where the weights are integers, f32 otherwise.
    pub fn new_cache(&self) -> Cache {
        Cache::new(&self.dims, matches!(self.layout.dtype, Dtype::Q8 | Dtype::Q4))
    }

    /// A scratch for a team of `n_members`.
    pub fn scratch(&self, n_members: usize) -> Scratch {
        Scratch::new(&self.dims, n_members)
    }
}
