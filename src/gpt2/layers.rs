//! The three layers that GPT-2 is made of, with the checkpoint's own shapes and names.

use burn::tensor::{Int, Tensor, module::layer_norm};

use super::Tensors;
use crate::error::Result;

/// A linear layer as GPT-2 stores it: weight `[in, out]`, the transpose of what most libraries use.
#[derive(Clone, Debug)]
pub struct Conv1d {
    /// [in, out]
    pub weight: Tensor<2>,
    /// `[out]`
    pub bias: Tensor<1>,
}

impl Conv1d {
    pub(super) fn load(tensors: &mut Tensors, name: &str) -> Result<Self> {
        Ok(Self { weight: tensors.take(&format!("{name}.weight"))?, bias: tensors.take(&format!("{name}.bias"))? })
    }

    /// x: [N, T, in] → [N, T, out]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        product(x, self.weight.clone().unsqueeze()) + self.bias.clone().unsqueeze()
    }
}

/// x · weight, computed in the weight's precision and given in that of x: training may have weights of 16 bits beside
/// activations of 32.
pub(super) fn product<const N: usize>(x: Tensor<N>, weight: Tensor<N>) -> Tensor<N> {
    let (outer, inner) = (x.dtype(), weight.dtype());
    match outer == inner {
        true => x.matmul(weight),
        false => x.cast(inner).matmul(weight).cast(outer),
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[C]`, the gain γ
    pub weight: Tensor<1>,
    /// `[C]`, the shift β
    pub bias: Tensor<1>,
    /// Added to the variance before the root.
    pub epsilon: f64,
}

impl LayerNorm {
    pub(super) fn load(tensors: &mut Tensors, name: &str, epsilon: f64) -> Result<Self> {
        Ok(Self {
            weight: tensors.take(&format!("{name}.weight"))?,
            bias: tensors.take(&format!("{name}.bias"))?,
            epsilon,
        })
    }

    /// x: [N, T, C] → [N, T, C]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.weight.clone(), Some(self.bias.clone()), self.epsilon)
    }
}

/// A table of rows.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// [rows, C]
    pub weight: Tensor<2>,
}

impl Embedding {
    pub(super) fn load(tensors: &mut Tensors, name: &str) -> Result<Self> {
        Ok(Self { weight: tensors.take(&format!("{name}.weight"))? })
    }

    /// ids: `[T]` → [T, C]
    pub fn forward(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        self.weight.clone().select(0, ids)
    }
}
