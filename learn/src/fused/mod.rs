//! The model's training step written as one pass forwards and one backwards over flat f32 buffers, for a processor.
//!
//! The definition stays `gpt2_web::gpt2` in Burn; `tests/pytorch.rs` holds these gradients against PyTorch's numbers. What
//! is won: no [T, T] of attention is kept (`attention.rs`), logits
//! exist for some rows at a time (`head.rs`), LayerNorm and the nonlinearity are one pass each (`pointwise.rs`), and no
//! intermediate result is allocated twice.

mod attention;
mod block;
mod dropout;
mod head;
mod lanes;
mod lora;
mod math;
mod pass;
mod pointwise;

pub use block::{FactorGradients, Matrix};
pub use dropout::{Mask, Rates, RowDropout, Site, mix};
pub use head::{NO_LABEL, Softened, Sums};
pub use lanes::{LaneOptions, Lanes, Task, Teacher, count, importance};
pub use lora::{Lora, LoraLayout, LoraPart, N_MODULES};
pub use math::{View, ViewMut, Write, product, sum_of, vectorised};
pub use pass::{Model, PassOptions, Phases, Rows, Workspace};
