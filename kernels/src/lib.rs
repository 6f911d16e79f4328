//! GPT-2 on the CPU: packed weights and SIMD kernels, without std.
//!
//! ```text
//! checkpoint tensors -pack-> image (layout, format) -forward-> logits
//! ```
//!
//! In reading order: [`layout`] (where each tensor lies), [`format`](mod@format) (what its bytes mean), [`pack`] (how they get there),
//! [`activations`] and [`product`] (y = W x), [`norm`], [`cache`] (keys and values), [`scratch`] and [`forward`] (one pass),
//! [`team`] (several threads), [`model`] (all of it for a caller), [`noise`] (weights for benches), `module` (the same as a WebAssembly module).

#![no_std]

extern crate alloc;

pub mod activations;
pub mod cache;
pub mod format;
pub mod forward;
pub mod layout;
pub mod model;
#[cfg(all(target_arch = "wasm32", feature = "module"))]
mod module;
pub mod noise;
pub mod norm;
pub mod pack;
pub mod product;
pub mod scratch;
pub mod simd;
pub mod team;

pub use format::Dtype;
pub use forward::{MAX_TOKENS, Op, Rows};
pub use layout::{Activation, Dims, LAYOUT_VERSION, Layout};
pub use model::{Forward, Model, Output};
