//! Random weights for benches, valid in every format: how long a pass takes does not depend on what the weights are.

use core::ops::Range;

use bytemuck::cast_slice_mut;

use crate::format::Dtype;
use crate::layout::{Matrix, Norm};
use crate::model::PackedModel;

/// Fills the image with weights of about ±0.02, as large as GPT-2's, biases of the same size, and LayerNorms of weight
/// 1 and bias 0. No number is subnormal, because those are slow to compute with, and no sum overflows.
pub fn fill(model: &mut PackedModel, seed: u64) {
    let layout = model.layout().clone();
    let image = model.image_mut();
    let mut words = Words(seed | 1);
    floats(image, &layout.wpe, &mut words);
    for block in &layout.blocks {
        for n in [&block.ln_1, &block.ln_2] {
            norm(image, n);
        }
        for m in [&block.c_attn, &block.c_proj, &block.c_fc, &block.mlp_c_proj] {
            matrix(image, m, &mut words);
        }
    }
    norm(image, &layout.ln_f);
    matrix(image, &layout.wte, &mut words);
    if let Some(lm_head) = &layout.lm_head {
        matrix(image, lm_head, &mut words);
    }
}

fn floats(image: &mut [u8], range: &Range<usize>, words: &mut Words) {
    cast_slice_mut(&mut image[range.clone()]).iter_mut().for_each(|x| *x = words.f32());
}

fn norm(image: &mut [u8], norm: &Norm) {
    cast_slice_mut(&mut image[norm.weight.clone()]).fill(1.0_f32);
    cast_slice_mut(&mut image[norm.bias.clone()]).fill(0.0_f32);
}

/// Quants, scales and bias of a matrix; see [`crate::format`].
fn matrix(image: &mut [u8], matrix: &Matrix, words: &mut Words) {
    let quants = &mut image[matrix.quants.clone()];
    match matrix.dtype {
        Dtype::Fp32 => cast_slice_mut(quants).iter_mut().for_each(|x| *x = words.f32()),
        Dtype::Fp16 => cast_slice_mut(quants).iter_mut().for_each(|x| *x = words.f16()),
        Dtype::Q8 | Dtype::Q4 => cast_slice_mut(quants).iter_mut().for_each(|x| *x = words.next()),
    }
    let row_scale = match matrix.dtype {
        Dtype::Q8 => 0.04 / 127.0,
        _ => 1.0,
    };
    cast_slice_mut(&mut image[matrix.row_scales.clone()]).fill(row_scale);
    /// The scale of every block, whose quants reach ±8: 2⁻⁸ as the bits of a half.
    const BLOCK_SCALE: u16 = (15 - 8) << 10;
    cast_slice_mut(&mut image[matrix.block_scales.clone()]).fill(BLOCK_SCALE);
    floats(image, &matrix.bias, words);
}

/// Random bits, the same for the same seed (xorshift64; Marsaglia 2003).
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number of either sign and a magnitude of 2⁻⁶ to 2⁻⁵.
    fn f32(&mut self) -> f32 {
        f32::from_bits((self.next() >> 32) as u32 & 0x807f_ffff | (127 - 6) << 23)
    }

    /// Such a number as the bits of a half.
    fn f16(&mut self) -> u16 {
        (self.next() >> 48) as u16 & 0x83ff | (15 - 6) << 10
    }
}
