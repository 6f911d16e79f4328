//! The parts of a pass, as a profile tells them apart.

/// A part of a pass. LayerNorm and the conversion of a product's input count as parts of the product.
///
/// www/src/engine/kernels.ts names them in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Op {
    /// `x = wte[id] + wpe[n]`
    Embed,
    /// `ln_1` and `attn.c_attn`
    Qkv,
    /// Storing keys and values, scores, softmax, the weighted sum of values
    Attention,
    /// `attn.c_proj` and the residual
    Proj,
    /// `ln_2`, `mlp.c_fc` and the activation function
    Fc,
    /// `mlp.c_proj` and the residual
    Proj2,
    /// `ln_f` and the head
    Head,
}

impl Op {
    /// Every part, in order.
    pub const ALL: [Self; 7] = [Self::Embed, Self::Qkv, Self::Attention, Self::Proj, Self::Fc, Self::Proj2, Self::Head];
    /// The parts of a block, in order.
    pub const BLOCK: [Self; 5] = [Self::Qkv, Self::Attention, Self::Proj, Self::Fc, Self::Proj2];
}
