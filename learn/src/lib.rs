//! Learning: a GPT-2 from text, and smaller models from larger ones.

pub mod checkpoint;
pub mod error;
pub mod fused;
pub mod layout;
pub mod optim;
pub mod prune;
pub mod sample;
pub mod score;
pub mod start;
pub mod text;
pub mod train;

pub use error::{Error, Result};
