//! Engines run the model. They share one small trait, so that each can be held against the reference.

pub mod cpu;
#[cfg_attr(not(feature = "full"), path = "no_gpu.rs")]
pub mod gpu;
mod interface;
mod propose;
#[cfg(feature = "burn")]
mod reference;
pub mod self_test;

pub use cpu::CpuEngine;
pub use gpu::GpuEngine;
pub use interface::{BatchRow, Cache, Engine, Output, Rows, check_bounds, check_ids};
pub use propose::{Choose, Chosen};
#[cfg(feature = "burn")]
pub use reference::{Reference, ReferenceSink};
