//! The feed-forward layer: a linear layer that widens, a nonlinearity, and a linear layer that narrows.

use burn::tensor::{Tensor, activation};

use super::{Conv1d, Tensors};
use crate::checkpoint::Activation;
use crate::error::Result;

/// The nonlinearity, element by element.
pub fn activate<const N: usize>(function: Activation, x: Tensor<N>) -> Tensor<N> {
    match function {
        Activation::GeluNew => activation::gelu_approximate(x),
        Activation::Gelu => activation::gelu(x),
        Activation::Relu => activation::relu(x),
        Activation::Silu => activation::silu(x),
        Activation::Tanh => activation::tanh(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
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

    /// x: [N, T, C] → [N, T, C]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.c_fc.forward(x); // [N, T, n_inner]
        self.c_proj.forward(activate(self.activation, x))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Where the nonlinearities are tried.
    const POINTS: [f32; 7] = [-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 4.0];
    /// The two kinds of GELU differ by 1.5e-4 here, and must not pass for one another.
    const TOLERANCE: f32 = 5e-5;

    /// transformers' `ACT2FN` at [`POINTS`], computed in float64.
    #[rustfmt::skip]
    const KNOWN: [(Activation, [f32; 7]); 6] = [
        (Activation::GeluNew, [-0.003_637_392, -0.158_808, -0.100_324_65, 0.0, 0.345_714, 0.841_192, 3.999_929_7]),
        (Activation::Gelu, [-0.004_049_694, -0.158_655_25, -0.100_323_42, 0.0, 0.345_731_23, 0.841_344_8, 3.999_873_3]),
        (Activation::Relu, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 4.0]),
        (Activation::Silu, [-0.142_277_62, -0.268_941_42, -0.109_455_875, 0.0, 0.311_229_67, 0.731_058_6, 3.928_055_2]),
        (Activation::Tanh, [-0.995_054_7, -0.761_594_2, -0.244_918_66, 0.0, 0.462_117_16, 0.761_594_2, 0.999_329_3]),
        (Activation::QuickGelu, [-0.018_071_31, -0.154_204_23, -0.098_800_35, 0.0, 0.350_388_44, 0.845_795_77, 3.995_585_3]),
    ];

    #[test]
    fn nonlinearities_are_transformers() {
        for (function, known) in KNOWN {
            let bent = activate(function, Tensor::<1>::from_data(POINTS, &Device::flex())).into_data();
            for (found, expected) in bent.try_into_vec_as::<f32>().unwrap().into_iter().zip(known) {
                assert!((found - expected).abs() < TOLERANCE, "{function:?}: expected {expected}, found {found}");
            }
        }
    }
}
