//! The packed weights in the device's memory: the image of `gpt2_kernels::layout`, cut into buffers.
//!
//! ```text
//! image   | wpe | ln_1 | c_attn: quants, rest | … | wte: quants  ………………  | rest |
//! units   |  1  |  1   |    1       1         | … |   1    ┊    1    ┊ 1 |  1   |   each within one binding
//! buffers |            0                               |       1         |  2   |   cut between units
//! ```
//!
//! A *unit* is what a shader binds at once. Only quants may be larger than a binding (fp32 `wte` of GPT-2 is 154 MB,
//! the default limit 128 MiB); they are cut between rows, and the shaders look into up to [`MAX_PARTS`] bindings.

use std::ops::Range;
use std::rc::Rc;

use gpt2_kernels::layout::{ALIGN, GROUP, Layout, Matrix, Norm};
use wgpu::{Buffer, BufferBinding, BufferSize, Limits};

use crate::engine::gpu::context::Context;
use crate::error::{Error, Result};

/// Bindings that one matrix may be spread over.
pub(crate) const MAX_PARTS: usize = 4;

/// A matrix is cut only after a multiple of this many groups of rows, so that each part begins at a multiple of 256
/// bytes, as bindings must. Groups are multiples of 64 bytes.
const CUT_GROUPS: usize = ALIGN / 64;

/// Largest buffer for weights, bytes. A device with fragmented memory may have no room for larger ones.
const MAX_BUFFER_BYTES: usize = 256 << 20;

/// How the image is cut for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The range of the image that each buffer holds, in order and without gaps, bytes.
    pub buffers: Vec<Range<usize>>,
    /// Largest binding, bytes.
    max_binding: usize,
}

impl Plan {
    /// Cuts an image so that a device of these limits can bind it.
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] that names the tensor that is too large.
    pub fn new(layout: &Layout, limits: &Limits) -> Result<Self> {
        let max_buffer = usize::try_from(limits.max_buffer_size).unwrap_or(usize::MAX).min(MAX_BUFFER_BYTES);
        let max_binding = usize::try_from(limits.max_storage_buffer_binding_size).unwrap_or(usize::MAX).min(max_buffer);
        let mut plan = Self { buffers: Vec::new(), max_binding };
        let mut begin = 0;
        let mut end = 0;
        for unit in plan.units(layout)? {
            if unit.end.next_multiple_of(ALIGN) - begin > max_buffer {
                plan.buffers.push(begin..unit.start);
                begin = unit.start;
            }
            end = unit.end;
        }
        debug_assert_eq!(end.next_multiple_of(ALIGN), layout.n_bytes);
        plan.buffers.push(begin..layout.n_bytes);
        Ok(plan)
    }

    /// The units of the image, in its order.
    fn units(&self, layout: &Layout) -> Result<Vec<Range<usize>>> {
        let mut units = Vec::new();
        let mut add = |name: &str, unit: Range<usize>| {
            if unit.len() > self.max_binding {
                return Err(self.too_large(name, unit.len()));
            }
            units.push(unit);
            Ok(())
        };
        add("wpe", layout.wpe.clone())?;
        for block in &layout.blocks {
            let parts = [
                ("ln_1", Some(&block.ln_1), &block.c_attn, "attn.c_attn"),
                ("", None, &block.c_proj, "attn.c_proj"),
                ("ln_2", Some(&block.ln_2), &block.c_fc, "mlp.c_fc"),
                ("", None, &block.mlp_c_proj, "mlp.c_proj"),
            ];
            for (norm_name, norm, matrix, name) in parts {
                if let Some(norm) = norm {
                    add(norm_name, norm_range(norm))?;
                }
                self.matrix_units(name, matrix, &mut add)?;
            }
        }
        add("ln_f", norm_range(&layout.ln_f))?;
        self.matrix_units("wte", &layout.wte, &mut add)?;
        if let Some(lm_head) = &layout.lm_head {
            self.matrix_units("lm_head", lm_head, &mut add)?;
        }
        Ok(units)
    }

    fn matrix_units(
        &self,
        name: &str,
        matrix: &Matrix,
        add: &mut impl FnMut(&str, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let parts = self.parts(matrix);
        if parts.len() > MAX_PARTS {
            return Err(self.too_large(name, matrix.quants.len()));
        }
        parts.into_iter().try_for_each(|part| add(name, part))?;
        let rest = rest_range(matrix);
        if rest.is_empty() { Ok(()) } else { add(name, rest) }
    }

    /// The quants of a matrix, cut between groups of rows.
    pub(crate) fn parts(&self, matrix: &Matrix) -> Vec<Range<usize>> {
        let n_groups = matrix.n_rows_padded() / GROUP;
        let group_bytes = matrix.group_bytes();
        let at_once = (self.max_binding / group_bytes / CUT_GROUPS * CUT_GROUPS).max(CUT_GROUPS);
        let at = |group: usize| matrix.quants.start + group * group_bytes;
        (0..n_groups).step_by(at_once).map(|g| at(g)..at((g + at_once).min(n_groups))).collect()
    }

    fn too_large(&self, name: &str, n_bytes: usize) -> Error {
        let max = self.max_binding;
        Error::WebGpuNotAvailable(format!(
            "tensor `{name}` takes {n_bytes} bytes and this GPU binds at most {max} at once"
        ))
    }
}

/// Weight and bias of a norm, which lie side by side.
pub(crate) fn norm_range(norm: &Norm) -> Range<usize> {
    norm.weight.start..norm.bias.end.next_multiple_of(ALIGN)
}

/// All of a matrix but its quants: block scales, row scales, bias.
pub(crate) fn rest_range(matrix: &Matrix) -> Range<usize> {
    let end = [&matrix.block_scales, &matrix.row_scales, &matrix.bias].iter().map(|r| r.end).max();
    let begin = matrix.quants.end.next_multiple_of(ALIGN);
    begin..end.unwrap_or(begin).max(begin)
}

/// The buffers that hold the image. Dropping it frees them at once, not when a page's garbage is next collected.
pub(crate) struct Image {
    context: Rc<Context>,
    pub layout: Layout,
    pub plan: Plan,
    buffers: Vec<Buffer>,
}

impl Image {
    /// Allocates all of it, as zeros.
    pub fn new(context: Rc<Context>, layout: Layout, plan: Plan) -> Self {
        let buffers = plan
            .buffers
            .iter()
            .enumerate()
            .map(|(i, range)| context.storage(&format!("weights {i}"), range.len() as u64));
        let buffers = buffers.collect();
        Self { context, layout, plan, buffers }
    }

    /// The binding of one unit.
    pub fn binding(&self, unit: Range<usize>) -> BufferBinding<'_> {
        let i = self.plan.buffers.partition_point(|b| b.end <= unit.start);
        let size = BufferSize::new(unit.len().next_multiple_of(16) as u64);
        BufferBinding { buffer: &self.buffers[i], offset: (unit.start - self.plan.buffers[i].start) as u64, size }
    }

    /// The pieces of the buffers that hold a range of the image: buffer, offset in it, range of the image.
    fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = (&Buffer, u64, Range<usize>)> {
        self.plan.buffers.iter().zip(&self.buffers).filter_map(move |(b, buffer)| {
            let piece = range.start.max(b.start)..range.end.min(b.end);
            (!piece.is_empty()).then(|| (buffer, (piece.start - b.start) as u64, piece))
        })
    }

    /// Writes a piece; offset and length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for a piece beyond the image or not aligned.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let range = self.checked_range(offset, bytes.len())?;
        for (buffer, at, piece) in self.pieces(range) {
            self.context.queue.write_buffer(buffer, at, &bytes[piece.start - offset..piece.end - offset]);
        }
        Ok(())
    }

    /// Reads a piece back.
    ///
    /// # Errors
    /// As [`Self::write`], and [`Error::DeviceLost`].
    pub async fn read(&self, offset: usize, n_bytes: usize) -> Result<Vec<u8>> {
        /// Bytes that are read back at a time.
        const MAX_PIECE: usize = 16 << 20;
        let range = self.checked_range(offset, n_bytes)?;
        let max_buffer = usize::try_from(self.context.device.limits().max_buffer_size).unwrap_or(usize::MAX);
        let n_at_once = MAX_PIECE.min(max_buffer / ALIGN * ALIGN);
        let mut bytes = Vec::with_capacity(n_bytes);
        for begin in range.clone().step_by(n_at_once) {
            let at_once = begin..(begin + n_at_once).min(range.end);
            let staging = self.context.staging(at_once.len() as u64);
            let mut encoder = self.context.device.create_command_encoder(&Default::default());
            for (buffer, at, piece) in self.pieces(at_once.clone()) {
                let to = (piece.start - begin) as u64;
                encoder.copy_buffer_to_buffer(buffer, at, &staging.buffer, to, piece.len() as u64);
            }
            let submitted = self.context.submit(encoder.finish());
            bytes.extend(staging.read(at_once.len() as u64, submitted).await?);
        }
        Ok(bytes)
    }

    fn checked_range(&self, offset: usize, n_bytes: usize) -> Result<Range<usize>> {
        let end = offset.checked_add(n_bytes).filter(|&end| end <= self.layout.n_bytes);
        match end {
            Some(end) if offset.is_multiple_of(4) && n_bytes.is_multiple_of(4) => Ok(offset..end),
            _ => Err(Error::InvalidState(format!(
                "packed weights: expected whole words within {} bytes, found {n_bytes} at {offset}",
                self.layout.n_bytes
            ))),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.buffers.iter().for_each(Buffer::destroy);
    }
}
