//! The surface for JavaScript, which translates and nothing else, and the choice of the device that a page runs on.
//!
//! JavaScript pulls; Rust calls into JavaScript only to say that it has panicked.

#[cfg_attr(not(feature = "full"), allow(unreachable_code))] // no GPU engine, no way through its branches
mod any_engine;
pub mod device;
#[cfg(target_arch = "wasm32")]
mod js;
#[cfg(target_arch = "wasm32")]
mod kernels;
#[cfg(target_arch = "wasm32")]
mod loader;
#[cfg(target_arch = "wasm32")]
mod model;
#[cfg(target_arch = "wasm32")]
mod packer;
#[cfg(all(target_arch = "wasm32", feature = "full"))]
mod pipelines;
#[cfg(target_arch = "wasm32")]
mod scheduler;
#[cfg(target_arch = "wasm32")]
mod session;
#[cfg(target_arch = "wasm32")]
mod start;

pub use any_engine::{AnyEngine, AnyEngineCache};
#[cfg(target_arch = "wasm32")]
pub use kernels::{KernelModule, Module};
#[cfg(target_arch = "wasm32")]
pub use loader::{Compiling, Loader, destroy_gpu, packed_name, shard_names, tokenizer_files, weight_files};
#[cfg(target_arch = "wasm32")]
pub use model::Model;
#[cfg(target_arch = "wasm32")]
pub use packer::{PackedFile, Packer, layout_version};
#[cfg(target_arch = "wasm32")]
pub use scheduler::Scheduler;
#[cfg(target_arch = "wasm32")]
pub use session::{Scorer, Session};
#[cfg(target_arch = "wasm32")]
pub use start::{on_panic, start};
