//! Between parameters and an engine's packed weights: what learns in a page needs no second download, and what was
//! learnt is written with at once.

use gpt2_kernels::format::unpack_row;
use gpt2_kernels::layout::{GROUP, Matrix, Norm};
use gpt2_kernels::{Dtype, Layout as PackedLayout};
use gpt2_web::checkpoint::{Config, PackingSink, TensorSink, packing};
use safetensors::SafeTensors;

use super::write::checkpoint_name;
use crate::fused::Model;
use crate::layout::{Affine, Layout};
use crate::{Error, Result};

/// The parameters that packed weights stand for, as the engine computes with them. image: all bytes of a model packed in
/// `dtype`
///
/// # Errors
/// [`Error::Option`] for an image of another size.
pub fn unpack(config: &Config, layout: &Layout, dtype: Dtype, image: &[u8]) -> Result<Vec<f32>> {
    let packed = packing::layout(config, dtype)?;
    if image.len() != packed.n_bytes {
        return Err(Error::option("weights", format!("{} bytes", packed.n_bytes), image.len()));
    }
    let mut params = vec![0.0; layout.n_params];
    let mut unpacked = Unpacking { image, params: &mut params };
    unpacked.all(layout, &packed);
    Ok(params)
}

/// The image of a checkpoint in the engine's own form. weights: a safetensors file in F32, as [`super::safetensors`] writes it
///
/// # Errors
/// [`Error::Option`] for a file that is none of this model, [`Error::Model`] where there is no room.
pub fn packed(model: &Model, weights: &[u8], dtype: Dtype) -> Result<Vec<u8>> {
    let wrong = |found: String| Error::option("weights", "a safetensors file of this model in F32", found);
    let file = SafeTensors::deserialize(weights).map_err(|e| wrong(e.to_string()))?;
    let packed = packing::layout(&model.config, dtype)?;
    let mut image = Vec::new();
    image.try_reserve_exact(packed.n_bytes).map_err(|_| packing::out_of_memory(&model.config, dtype))?;
    image.resize(packed.n_bytes, 0);
    let mut sink = PackingSink::new(packed, |offset, bytes: &[u8]| {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    });
    let mut values = Vec::new();
    for slot in &model.layout.slots {
        let name = checkpoint_name(&slot.name);
        let tensor = file.tensor(&name).map_err(|e| wrong(format!("`{name}`: {e}")))?;
        if tensor.dtype() != safetensors::Dtype::F32 || tensor.shape() != slot.shape {
            return Err(wrong(format!("`{name}` in {:?}, {:?}", tensor.dtype(), tensor.shape())));
        }
        values.clear();
        values.extend(tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        sink.begin(&slot.name, &slot.shape)?;
        sink.values(&values)?;
        sink.end()?;
    }
    drop(sink);
    Ok(image)
}

struct Unpacking<'a> {
    image: &'a [u8],
    params: &'a mut [f32],
}

impl Unpacking<'_> {
    fn all(&mut self, layout: &Layout, packed: &PackedLayout) {
        self.rows(&packed.wte, layout.wte.start);
        self.floats(&packed.wpe, layout.wpe.start);
        for (from, to) in packed.blocks.iter().zip(&layout.blocks) {
            self.norm(&from.ln_1, &to.ln_1);
            self.linear(&from.c_attn, &to.c_attn);
            self.linear(&from.c_proj, &to.c_proj);
            self.norm(&from.ln_2, &to.ln_2);
            self.linear(&from.c_fc, &to.c_fc);
            self.linear(&from.mlp_c_proj, &to.mlp_c_proj);
        }
        self.norm(&packed.ln_f, &layout.ln_f);
        if let Some(head) = &packed.lm_head {
            self.rows(head, layout.head.start);
        }
    }

    /// Numbers that are stored as f32.
    fn floats(&mut self, from: &std::ops::Range<usize>, to: usize) {
        let numbers = self.image[from.clone()].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        for (into, x) in self.params[to..].iter_mut().zip(numbers) {
            *into = x;
        }
    }

    fn norm(&mut self, from: &Norm, to: &Affine) {
        let n = to.weight.len();
        let exact = |range: &std::ops::Range<usize>| range.start..range.start + 4 * n; // without padding
        self.floats(&exact(&from.weight), to.weight.start);
        self.floats(&exact(&from.bias), to.bias.start);
    }

    /// A matrix whose rows are the embedding's or the head's: [V, C].
    fn rows(&mut self, from: &Matrix, to: usize) {
        for row in 0..from.n_rows {
            let at = to + row * from.n_cols;
            let mut values = vec![0.0; from.n_cols];
            self.row(from, row, &mut values);
            self.params[at..at + from.n_cols].copy_from_slice(&values);
        }
    }

    /// A linear layer: its rows are the columns of a Conv1D's [in, out].
    fn linear(&mut self, from: &Matrix, to: &Affine) {
        let mut values = vec![0.0; from.n_cols];
        for row in 0..from.n_rows {
            self.row(from, row, &mut values);
            for (k, &x) in values.iter().enumerate() {
                self.params[to.weight.start + k * from.n_rows + row] = x;
            }
        }
        self.floats(&(from.bias.start..from.bias.start + 4 * from.n_rows), to.bias.start);
    }

    fn row(&self, from: &Matrix, row: usize, values: &mut [f32]) {
        let (group, of_group) = (row / GROUP, row % GROUP);
        let quants = &self.image[from.quants.clone()][group * from.group_bytes()..][..from.group_bytes()];
        let scale = self.image[from.row_scales.clone()].as_chunks().0.get(row).map_or(1.0, |&b| f32::from_le_bytes(b));
        let n_blocks = from.n_cols_padded() / gpt2_kernels::layout::BLOCK;
        let halves = self.image[from.block_scales.clone()].as_chunks::<2>().0.as_chunks::<GROUP>().0;
        let block_scales: Vec<[u16; GROUP]> =
            halves.iter().skip(group * n_blocks).take(n_blocks).map(|four| four.map(u16::from_le_bytes)).collect();
        unpack_row(from.dtype, quants.as_chunks().0, &block_scales, scale, of_group, values);
    }
}
