//! The feed-forward layer: widen, bend, narrow.

use burn::tensor::{Tensor, activation};

use super::{Activation, Conv1d};
use crate::error::Result;
use crate::weights::Tensors;

/// The nonlinearity, element by element.
pub fn activate<const N: usize>(function: Activation, x: Tensor<N>) -> Tensor<N> {
    match function {
        Activation::GeluNew => activation::gelu_approximate(x),
        Activation::Gelu => activation::gelu(x),
        Activation::Relu => activation::relu(x),
        Activation::Silu => activation::silu(x),
        Activation::Tanh => activation::tanh(x),
    }
}

/// `c_proj(act(c_fc(x)))`
#[derive(Clone, Debug)]
pub struct Mlp {
    /// [C, `n_inner`]
    pub c_fc: Conv1d,
    /// [`n_inner`, C]
    pub c_proj: Conv1d,
    /// The nonlinearity between the two.
    pub activation: Activation,
}

impl Mlp {
    pub(super) fn load(tensors: &mut Tensors, name: &str, activation: Activation) -> Result<Self> {
        Ok(Self {
            c_fc: Conv1d::load(tensors, &format!("{name}.c_fc"))?,
            c_proj: Conv1d::load(tensors, &format!("{name}.c_proj"))?,
            activation,
        })
    }

    /// x: [1, T, C] → [1, T, C]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.c_fc.forward(x); // [1, T, n_inner]
        self.c_proj.forward(activate(self.activation, x))
    }
}
