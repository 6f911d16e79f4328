//! Where each parameter stands in the one flat buffer that holds them all.
//!
//! Parameters, gradients and the optimizer's moments are buffers of this layout, so that clipping and the update are
//! one pass over memory.

use std::ops::Range;

use gpt2_web::checkpoint::{Config, names};

/// One tensor's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name in the checkpoint, without `transformer.`.
    pub name: String,
    /// Its shape; Conv1D weights are `[in, out]`.
    pub shape: Vec<usize>,
    /// Its values in the buffer, row-major.
    pub range: Range<usize>,
}

impl Slot {
    /// Whether decay shrinks it: matrices and embeddings, but no bias and no norm.
    pub fn decays(&self) -> bool {
        self.shape.len() >= 2
    }

    /// Whether it is a matrix inside a block, which Muon may update.
    pub fn is_block_matrix(&self) -> bool {
        self.shape.len() == 2 && self.name.starts_with("h.")
    }
}

/// A linear layer's or a norm's weight and bias.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Gain of a norm, or [in, out].
    pub weight: Range<usize>,
    /// Shift, `[out]`.
    pub bias: Range<usize>,
}

/// The places of one block's parameters.
#[derive(Clone, Debug)]
pub struct BlockLayout {
    /// Norm before the attention.
    pub ln_1: Affine,
    /// Query, key and value, [C, 3 C].
    pub c_attn: Affine,
    /// Mixes the heads, [C, C].
    pub c_proj: Affine,
    /// Norm before the MLP.
    pub ln_2: Affine,
    /// [C, `n_inner`]
    pub c_fc: Affine,
    /// [`n_inner`, C]
    pub mlp_c_proj: Affine,
}

/// The places of all parameters.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the order of the forward pass.
    pub slots: Vec<Slot>,
    /// Token embedding, [V, C].
    pub wte: Range<usize>,
    /// Position embedding, [`n_positions`, C].
    pub wpe: Range<usize>,
    /// The blocks.
    pub blocks: Vec<BlockLayout>,
    /// The norm before the head.
    pub ln_f: Affine,
    /// The head, [V, C]; the same place as `wte` where they are tied.
    pub head: Range<usize>,
    /// How many values there are.
    pub n_params: usize,
}

impl Layout {
    /// The layout of a model of this configuration.
    pub fn new(config: &Config) -> Self {
        let mut n_params = 0;
        let slots: Vec<Slot> = names::expected_tensors(config)
            .into_iter()
            .map(|(name, shape)| {
                let begin = n_params;
                n_params += shape.iter().product::<usize>();
                Slot { name, shape, range: begin..n_params }
            })
            .collect();
        let mut ranges = slots.iter().map(|slot| slot.range.clone());
        let mut next = || ranges.next().unwrap_or_default();
        let (wte, wpe) = (next(), next());
        let mut affine = || Affine { weight: next(), bias: next() };
        let blocks = (0..config.n_layer)
            .map(|_| BlockLayout {
                ln_1: affine(),
                c_attn: affine(),
                c_proj: affine(),
                ln_2: affine(),
                c_fc: affine(),
                mlp_c_proj: affine(),
            })
            .collect();
        let ln_f = affine();
        let head = if config.tie_word_embeddings { wte.clone() } else { next() };
        Self { slots, wte, wpe, blocks, ln_f, head, n_params }
    }

    /// The place of the tensor of that name, with or without `transformer.`.
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        let name = names::canonical(name);
        self.slots.iter().find(|slot| slot.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_names() {
        for tied in [true, false] {
            let json = format!(
                r#"{{"model_type":"gpt2","vocab_size":7,"n_positions":5,"n_embd":4,"n_head":2,"n_layer":2,"n_inner":6,"tie_word_embeddings":{tied}}}"#
            );
            let layout = Layout::new(&Config::from_json(&json).unwrap());
            let range = |name: &str| layout.slot(name).unwrap().range.clone();
            assert_eq!(layout.blocks[1].c_attn.weight, range("transformer.h.1.attn.c_attn.weight"));
            assert_eq!(layout.blocks[0].mlp_c_proj.bias, range("h.0.mlp.c_proj.bias"));
            assert_eq!(layout.ln_f.bias, range("ln_f.bias"));
            assert_eq!(layout.head, range(if tied { "wte.weight" } else { "lm_head.weight" }));
            assert_eq!(layout.slots.last().unwrap().range.end, layout.n_params);
            assert!(layout.slot("h.0.ln_1.weight").is_some_and(|slot| !slot.decays()));
            assert!(layout.slot("wpe.weight").is_some_and(|slot| slot.decays() && !slot.is_block_matrix()));
        }
    }
}
