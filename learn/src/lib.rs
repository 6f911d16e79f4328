//! Learning: a GPT-2 from text, and smaller models from larger ones.
//!
//! In a page, which has neither files nor threads of this kind, there is the step alone: `checkpoint`, `finetune`, `fused`, `layout`, `lora`,
//! `optim`, `prune`, and of `train` the learner.

pub mod checkpoint;
#[cfg(feature = "burn")]
pub mod device;
pub mod error;
pub mod finetune;
pub mod fused;
pub mod layout;
pub mod lora;
#[cfg(not(target_arch = "wasm32"))]
pub mod measure;
pub mod optim;
pub mod prune;
#[cfg(not(target_arch = "wasm32"))]
pub mod sample;
#[cfg(not(target_arch = "wasm32"))]
pub mod score;
#[cfg(not(target_arch = "wasm32"))]
pub mod start;
#[cfg(not(target_arch = "wasm32"))]
pub mod text;
pub mod train;
#[cfg(not(target_arch = "wasm32"))]
pub mod two_bits;

pub use error::{Error, Result};
