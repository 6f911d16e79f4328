//! GPT-2 on the CPU: packed weights and SIMD kernels, without std.
//!
//! ```text
//! checkpoint tensors -pack-> image (layout, format) -forward-> logits
//! ```
//!
//! In reading order, in which each file uses only files before it:
//!
//! - the ground: `limits` (sizes that several files share), [`simd`] (vectors);
//! - what a model is: [`activation`], `dims`;
//! - its weights: [`format`](mod@format) (what the bytes mean), [`layout`] (where each tensor lies), [`pack`] (how they
//!   get there);
//! - the kernels: [`inputs`] and [`product`] (y = W x), [`norm`], [`softmax`], [`adapter`] (what is added to a product),
//!   [`cache`] (keys and values);
//! - a pass: [`scratch`] (its memory), [`model`] (the weights in memory), `op` (its parts), [`team`] (several threads),
//!   [`forward`] (ids in, logits out);
//! - around it: [`noise`] (random weights for benches) and `module` (all of it as a WebAssembly module).

#![no_std]

extern crate alloc;

pub mod activation;
pub mod adapter;
pub mod cache;
mod dims;
pub mod format;
pub mod forward;
pub mod inputs;
pub mod layout;
mod limits;
pub mod model;
#[cfg(all(target_arch = "wasm32", feature = "module"))]
mod module;
pub mod noise;
pub mod norm;
mod op;
pub mod pack;
pub mod product;
pub mod scratch;
pub mod simd;
pub mod softmax;
pub mod team;

pub use activation::Activation;
pub use dims::Dims;
pub use format::Dtype;
pub use forward::{Forward, Output, Rows};
pub use layout::{LAYOUT_VERSION, Layout};
pub use limits::MAX_TOKENS;
pub use model::PackedModel;
pub use op::Op;
