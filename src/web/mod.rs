//! The surface for JavaScript, which translates and nothing else, and the choice of the device that a page runs on.
//!
//! JavaScript pulls; Rust calls into JavaScript only to say that it has panicked.

mod adapters;
#[cfg_attr(not(feature = "full"), allow(unreachable_code))] // no GPU engine, no way through its branches
mod any_engine;
pub mod device;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod js;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod kernels;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod loader;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod model;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod packer;
#[cfg(all(target_arch = "wasm32", feature = "page", feature = "full"))]
mod pipelines;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod scheduler;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod session;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
mod start;

pub use adapters::Adapters;
pub use any_engine::{AnyEngine, AnyEngineCache};
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use kernels::{KernelModule, Module};
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use loader::{Compiling, Loader, destroy_gpu, packed_name, shard_names, tokenizer_files, weight_files};
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use model::Model;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use packer::{PackedFile, Packer, layout_version};
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use scheduler::Scheduler;
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use session::{Scorer, Session};
#[cfg(all(target_arch = "wasm32", feature = "page"))]
pub use start::{on_panic, start};
