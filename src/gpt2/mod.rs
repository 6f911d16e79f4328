//! GPT-2 in Burn, once, reading like the paper (Radford et al. 2019): the reference for every faster engine.
//!
//! Fields carry the names of the checkpoint, so `h[3].attn.c_attn.weight` here is `h.3.attn.c_attn.weight` there.
//! Shapes: N texts (1 but in training), T new tokens, S keys so far (the new ones included), C `n_embd`, H `n_head`, D = C / H, V `vocab_size`.

mod attention;
mod kv_cache;
mod layers;
mod mlp;
mod tensors;

pub use attention::Attention;
pub use kv_cache::{KvCache, LayerCache};
pub use layers::{Conv1d, Embedding, LayerNorm};
pub use mlp::{Mlp, activate};
pub use tensors::Tensors;

use burn::tensor::{Device, Int, Tensor};

use crate::checkpoint::Config;
use crate::error::Result;
use crate::token::TokenId;

/// One pre-norm residual block (Radford et al. 2019, §2.3).
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before the attention.
    pub ln_1: LayerNorm,
    /// Causal self-attention.
    pub attn: Attention,
    /// Norm before the MLP.
    pub ln_2: LayerNorm,
    /// The feed-forward layer.
    pub mlp: Mlp,
}

impl Block {
    fn load(tensors: &mut Tensors, config: &Config, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("h.{layer}.{part}");
        Ok(Self {
            ln_1: LayerNorm::load(tensors, &name("ln_1"), config.layer_norm_epsilon)?,
            attn: Attention::load(tensors, &name("attn"), config, layer)?,
            ln_2: LayerNorm::load(tensors, &name("ln_2"), config.layer_norm_epsilon)?,
            mlp: Mlp::load(tensors, &name("mlp"), config.activation_function)?,
        })
    }

    /// x: [N, T, C] → ([N, T, C], attention weights [N, H, T, S])
    pub fn forward(&self, x: Tensor<3>, cache: &mut LayerCache) -> (Tensor<3>, Tensor<4>) {
        let (attended, weights) = self.attn.forward(self.ln_1.forward(x.clone()), cache);
        let x = x + attended;
        (x.clone() + self.mlp.forward(self.ln_2.forward(x)), weights)
    }
}

/// A whole model: token and position embeddings, the blocks, the last norm and the head.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    /// Token embedding, [V, C].
    pub wte: Embedding,
    /// Position embedding, [`n_positions`, C].
    pub wpe: Embedding,
    /// The blocks, in order.
    pub h: Vec<Block>,
    /// The norm before the head.
    pub ln_f: LayerNorm,
    /// The head's weight [V, C]; `wte` itself where they are tied.
    pub lm_head: Embedding,
}

impl Gpt2 {
    /// Assembles a model from tensors that are on a device already; takes each one out of `tensors`.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] that names the first tensor missing or of another shape.
    pub fn load(tensors: &mut Tensors, config: &Config) -> Result<Self> {
        let wte = Embedding::load(tensors, "wte")?;
        let lm_head = match config.tie_word_embeddings {
            true => wte.clone(), // shares the memory
            false => Embedding::load(tensors, "lm_head")?,
        };
        Ok(Self {
            wte,
            wpe: Embedding::load(tensors, "wpe")?,
            h: (0..config.n_layer).map(|layer| Block::load(tensors, config, layer)).collect::<Result<_>>()?,
            ln_f: LayerNorm::load(tensors, "ln_f", config.layer_norm_epsilon)?,
            lm_head,
        })
    }

    /// Sum of token and position embeddings of `ids` that start at position `start`. → [1, T, C]
    pub fn embed(&self, ids: &[TokenId], start: usize, device: &Device) -> Tensor<3> {
        let n_new = ids.len();
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<1, Int>::from_data(burn::tensor::TensorData::new(ids, [n_new]), device);
        let positions = Tensor::<1, Int>::arange(start as i64..(start + n_new) as i64, device);
        (self.wte.forward(ids) + self.wpe.forward(positions)).unsqueeze() // [T, C] -> [1, T, C]
    }

    /// Runs `ids` after what `cache` holds and appends their keys and values to it.
    /// Pushes each block's attention weights [1, H, T, S] to `attentions`, if asked for. → hidden states [1, T, C]
    ///
    /// The caller has checked the bounds: ids below V, and at most `n_positions` tokens in all.
    pub fn hidden(
        &self,
        ids: &[TokenId],
        cache: &mut KvCache,
        mut attentions: Option<&mut Vec<Tensor<4>>>,
        device: &Device,
    ) -> Tensor<3> {
        let mut x = self.embed(ids, cache.len(), device);
        for (block, layer) in self.h.iter().zip(cache.layers_mut()) {
            let (y, weights) = block.forward(x, layer);
            x = y;
            if let Some(kept) = attentions.as_deref_mut() {
                kept.push(weights);
            }
        }
        x
    }

    /// The hidden states of whole rows, from their first token on. ids: [N, T] → [N, T, C]
    pub fn hidden_of_rows(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let ([n_rows, n_tokens], device) = (ids.dims(), ids.device());
        let positions = Tensor::<1, Int>::arange(0..n_tokens as i64, &device);
        let tokens = self.wte.forward(ids.reshape([n_rows * n_tokens])).reshape([n_rows as i32, n_tokens as i32, -1]);
        let x = tokens + self.wpe.forward(positions).unsqueeze();
        self.h.iter().fold(x, |x, block| block.forward(x, &mut LayerCache::default()).0)
    }

    /// The head: the last norm, then the product with the (transposed) embedding. x: [N, T, C] → logits [N T, V]
    pub fn logits(&self, x: Tensor<3>) -> Tensor<2> {
        let [n_rows, n_tokens, n_embd] = x.dims();
        let x = self.ln_f.forward(x).reshape([n_rows * n_tokens, n_embd]);
        layers::product(x, self.lm_head.weight.clone().transpose()) // [N T, C] · [C, V]
    }
}
