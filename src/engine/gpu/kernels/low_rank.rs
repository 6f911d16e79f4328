//! A product that an adapter may have a part for. It adds s B (A x) itself; A x is computed in a dispatch before it or,
//! of one token and few ranks, by each of its workgroups.

use gpt2_kernels::layout::Matrix;
use wgpu::Buffer;

use super::kernel::{Added, Dispatch, Extent, Kernel};
use super::maker::{DispatchMaker, Few, Finish, Many, Source};
use crate::engine::gpu::limits::SUM_THREADS;
use crate::engine::gpu::memory::LowRank;
use crate::error::Result;

/// The largest rank of which each workgroup of a product of a norm computes A x for itself. It reads all of A, as it reads
/// all of the norm, and more than this would take longer than another dispatch.
const MAX_OWN_RANK: usize = 16;

impl DispatchMaker<'_> {
    /// As `matvec`.
    pub(super) fn adapted_matvec(
        &self,
        label: &str,
        matrix: &Matrix,
        source: Source,
        finish: Finish,
        few: Few,
        adapter: Option<&LowRank>,
    ) -> Result<Vec<Dispatch>> {
        let Some(adapter) = adapter else {
            return Ok(vec![self.matvec(label, matrix, source, finish, few, Added::Nothing)?]);
        };
        if let (Source::Norm(_), Few::Newest) = (source, few)
            && adapter.rank4 <= MAX_OWN_RANK / 4
        {
            return Ok(vec![self.matvec(label, matrix, source, finish, few, Added::Own(adapter))?]);
        }
        let batch = if let Few::Batch(_, tokens) = few { Some(tokens) } else { None };
        Ok(vec![
            self.lower(matrix, source, batch, adapter)?,
            self.matvec(label, matrix, source, finish, few, Added::Told(adapter))?,
        ])
    }

    /// As `matmul`.
    pub(super) fn adapted_matmul(
        &self,
        label: &str,
        matrix: &Matrix,
        input: &Buffer,
        finish: Finish,
        many: Many,
        adapter: Option<&LowRank>,
    ) -> Result<Vec<Dispatch>> {
        let Some(adapter) = adapter else {
            return Ok(vec![self.matmul(label, matrix, input, finish, many, Added::Nothing)?]);
        };
        Ok(vec![
            self.lower(matrix, Source::Plain(input), None, adapter)?,
            self.matmul(label, matrix, input, finish, many, Added::Told(adapter))?,
        ])
    }

    /// A x of all tokens of one text, or of those that `batch` tells.
    fn lower(&self, matrix: &Matrix, source: Source, batch: Option<&Buffer>, adapter: &LowRank) -> Result<Dispatch> {
        let kernel = Kernel::new("LoRA")
            .low_rank(adapter)
            .constant("WG", SUM_THREADS)
            .constant("K", matrix.n_cols)
            .constant("K4", matrix.n_cols_padded() / 4)
            .write("low_rank", "vec4<f32>", &adapter.buffer);
        let kernel = match batch {
            None => kernel.source(include_str!("wgsl/tokens_of_text.wgsl")),
            Some(batch) => kernel
                .read("batch", "vec4<u32>", batch.as_entire_buffer_binding())
                .source(include_str!("wgsl/tokens_of_batch.wgsl")),
        };
        let kernel = match source {
            Source::Norm(_) => kernel.source(include_str!("wgsl/adapter_of_norm.wgsl")),
            _ => kernel.source(include_str!("wgsl/total.wgsl")).source(include_str!("wgsl/adapter_of_row.wgsl")),
        };
        self.source(kernel, source)
            .params(&self.s.params)
            .source(include_str!("wgsl/sums.wgsl"))
            .source(include_str!("wgsl/adapter_sums.wgsl"))
            .source(include_str!("wgsl/adapter_lower.wgsl"))
            .build(self.pipelines, [Extent::Fixed(adapter.rank4 as u32), Extent::Tokens(1)])
    }
}
