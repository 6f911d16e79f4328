//! The kernels: how WGSL becomes a dispatch, which dispatches a pass has, and how each is spread over threads.

mod batch;
mod kernel;
mod maker;
mod model;
mod params;
mod pipelines;
mod tuning;

pub(crate) use batch::{BatchLayer, BatchScratch, Width};
pub(crate) use kernel::{Dispatch, PassSize};
pub(crate) use maker::DispatchMaker;
pub(crate) use model::GpuModel;
pub(crate) use params::Params;
pub(crate) use pipelines::Pipelines;
pub use tuning::Tuning;
pub(crate) use tuning::{MATVEC_THREADS, THREAD_CHUNKS, TILES, TUNING_VERSION};
