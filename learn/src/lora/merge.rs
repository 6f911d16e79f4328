//! An adapter that becomes a part of its model.

use crate::fused::LoraLayout;
use crate::layout::Layout;

/// Adds an adapter to the parameters of its model: W ← W + w s (B A)ᵀ, W being a Conv1D's [K, R] (Hu et al. 2021, §4.1).
/// params: in `layout`; weight: w, how much of the adapter is added
pub fn merge(params: &mut [f32], layout: &Layout, adapter: (&LoraLayout, &[f32]), weight: f32) {
    let (places, numbers) = adapter;
    for (block, parts) in layout.blocks.iter().zip(&places.blocks) {
        let matrices = [&block.c_attn, &block.c_proj, &block.c_fc, &block.mlp_c_proj];
        for (part, matrix) in parts.iter().zip(matrices).filter_map(|(part, matrix)| Some((part.as_ref()?, matrix))) {
            let (a, b) = (&numbers[part.a.clone()], &numbers[part.b.clone()]);
            let (n_in, n_out) = (a.len() / part.rank, b.len() / part.rank);
            let w = &mut params[matrix.weight.clone()];
            for (k, row) in w.chunks_exact_mut(n_out).enumerate() {
                for (value, b) in row.iter_mut().zip(b.chunks_exact(part.rank)) {
                    let sum: f32 = b.iter().enumerate().map(|(r, b)| b * a[r * n_in + k]).sum();
                    *value += weight * part.scale * sum;
                }
            }
        }
    }
}
