//! The CPU engine: packed weights and the SIMD kernels of `kernels/`, wherever these run.
//!
//! In a page they are a WebAssembly module of their own, with its own memory and perhaps several threads; natively they
//! are linked in. Both are [`Kernels`].

mod engine;
mod kernels;
mod linked;

pub use engine::{CpuCache, CpuEngine};
pub use kernels::{Kernels, Text};
pub use linked::Linked;
