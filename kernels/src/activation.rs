//! The MLP's activation functions.

use crate::simd::F32x4;

/// The MLP's activation function; `config.json` names it in `activation_function`, as transformers does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activation {
    /// `gelu_new`: GELU (Hendrycks & Gimpel 2016), approximated with tanh
    GeluNew,
    /// `gelu`: GELU with erf
    Gelu,
    /// `relu`
    Relu,
    /// `silu`: x · sigmoid(x)
    Silu,
    /// `tanh`
    Tanh,
    /// `quick_gelu`: x · sigmoid(1.702 x)
    QuickGelu,
}

impl Activation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::GeluNew, Self::Gelu, Self::Relu, Self::Silu, Self::Tanh, Self::QuickGelu];

    /// The name that transformers gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GeluNew => "gelu_new",
            Self::Gelu => "gelu",
            Self::Relu => "relu",
            Self::Silu => "silu",
            Self::Tanh => "tanh",
            Self::QuickGelu => "quick_gelu",
        }
    }
}

/// The activation function of each number, in place. x: [n/4]
///
/// A function of its own, for the reason that `product::dot_one` gives.
#[inline(never)]
pub fn activate_row(activation: Activation, x: &mut [[f32; 4]]) {
    for x in x {
        activate(activation, F32x4::load(x)).store(x);
    }
}

/// The activation function of each lane.
#[inline(always)]
pub fn activate(activation: Activation, x: F32x4) -> F32x4 {
    let one = F32x4::splat(1.0);
    let sigmoid = |x: F32x4| one / (one + (F32x4::splat(0.0) - x).exp());
    match activation {
        // 0.5 x (1 + tanh(u)) = x · sigmoid(2u), with u = √(2/π) (x + 0.044715 x³)
        Activation::GeluNew => {
            let u2 = F32x4::splat(1.595_769_2) * x * (x * x).madd(F32x4::splat(0.044_715), one);
            x * sigmoid(u2)
        }
        Activation::Gelu => x * F32x4::splat(0.5) * (one + erf(x * F32x4::splat(core::f32::consts::FRAC_1_SQRT_2))),
        Activation::Relu => x.max(F32x4::splat(0.0)),
        Activation::Silu => x * sigmoid(x),
        // 2 sigmoid(2x) - 1
        Activation::Tanh => F32x4::splat(2.0) * sigmoid(x + x) - one,
        Activation::QuickGelu => x * sigmoid(F32x4::splat(1.702) * x),
    }
}

/// erf(x) of each lane, to 1.5e-7 (Abramowitz & Stegun 7.1.26).
#[inline(always)]
fn erf(x: F32x4) -> F32x4 {
    const A: [f32; 4] = [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6];
    let one = F32x4::splat(1.0);
    let z = x.abs();
    let t = one / z.madd(F32x4::splat(0.327_591_1), one);
    let p = A.into_iter().fold(F32x4::splat(1.061_405_4), |p, a| p.madd(t, F32x4::splat(a)));
    let y = one - p * t * (F32x4::splat(0.0) - z * z).exp();
    y.copy_sign(x)
}
