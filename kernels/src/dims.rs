//! The hyperparameters of a model.

use crate::activation::Activation;

/// The hyperparameters that the kernels need, under their names in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims {
    /// V
    pub vocab_size: usize,
    /// The context window, tokens.
    pub n_positions: usize,
    /// C
    pub n_embd: usize,
    /// How many blocks.
    pub n_layer: usize,
    /// H; divides `n_embd`.
    pub n_head: usize,
    /// Width of the MLP's hidden layer.
    pub n_inner: usize,
    /// The MLP's activation function.
    pub activation: Activation,
    /// ε of every LayerNorm.
    pub layer_norm_epsilon: f32,
    /// Whether scores are divided by √D.
    pub scale_attn_weights: bool,
    /// Whether scores of block i are also divided by i + 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether the head is `wte` itself.
    pub tie_word_embeddings: bool,
}

impl Dims {
    /// D, the width of one head: C / H.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// What the scores of block `layer` are multiplied by before the softmax.
    pub fn attn_scale(&self, layer: usize) -> f32 {
        let by_width = if self.scale_attn_weights { libm::sqrtf(self.head_dim() as f32) } else { 1.0 };
        let by_layer = if self.scale_attn_by_inverse_layer_idx { (layer + 1) as f32 } else { 1.0 };
        1.0 / (by_width * by_layer)
    }
}
