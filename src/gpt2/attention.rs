//! Causal multi-head self-attention (Vaswani et al. 2017, §3.2) over a KV cache.

use burn::tensor::{Bool, Tensor, activation::softmax};

use super::{Conv1d, LayerCache, Tensors};
use crate::checkpoint::Config;
use crate::error::Result;

/// The attention of one block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query, key and value in one product, [C, 3 C].
    pub c_attn: Conv1d,
    /// Mixes the heads, [C, C].
    pub c_proj: Conv1d,
    /// H
    pub n_head: usize,
    /// What scores are multiplied by before the softmax.
    pub scale: f64,
}

impl Attention {
    pub(super) fn load(tensors: &mut Tensors, name: &str, config: &Config, layer: usize) -> Result<Self> {
        Ok(Self {
            c_attn: Conv1d::load(tensors, &format!("{name}.c_attn"))?,
            c_proj: Conv1d::load(tensors, &format!("{name}.c_proj"))?,
            n_head: config.n_head,
            scale: config.attn_scale(layer),
        })
    }

    /// x: [N, T, C] → ([N, T, C], weights [N, H, T, S]); appends T keys and values to `cache`.
    pub fn forward(&self, x: Tensor<3>, cache: &mut LayerCache) -> (Tensor<3>, Tensor<4>) {
        let [n_rows, n_new, n_embd] = x.dims();
        let heads = |x: Tensor<3>| {
            x.reshape([n_rows, n_new, self.n_head, n_embd / self.n_head]).swap_dims(1, 2) // [N, H, T, D]
        };
        let qkv = self.c_attn.forward(x); // [N, T, 3 C]
        let q = heads(qkv.clone().narrow(2, 0, n_embd));
        let k = heads(qkv.clone().narrow(2, n_embd, n_embd));
        let v = heads(qkv.narrow(2, 2 * n_embd, n_embd));
        let (k, v) = cache.append(k, v); // [N, H, S, D]

        let scores = q.matmul(k.transpose()) * self.scale; // [N, H, T, S]
        let weights = softmax(causal(scores), 3);
        let x = weights.clone().matmul(v); // [N, H, T, D]
        let x = x.swap_dims(1, 2).reshape([n_rows, n_new, n_embd]); // [N, T, C]
        (self.c_proj.forward(x), weights)
    }
}

/// Hides the future: new token t stands at position S - T + t and sees the keys up to itself. scores: [N, H, T, S]
fn causal(scores: Tensor<4>) -> Tensor<4> {
    let [_, _, n_new, n_keys] = scores.dims();
    if n_new == 1 {
        return scores; // the newest token sees everything
    }
    let offset = (n_keys - n_new) as i64;
    // tril_mask is true strictly above the given diagonal: at the keys that a token must not see
    let future = Tensor::<2, Bool>::tril_mask([n_new, n_keys], offset, &scores.device());
    let future = future.reshape([1, 1, n_new, n_keys]).expand(scores.dims());
    scores.mask_fill(future, f32::NEG_INFINITY)
}
